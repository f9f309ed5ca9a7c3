/* Thread-locals of a shared library. NAME_ tells its variants apart. */

#define JOIN2(a, b) a##b
#define JOIN(a, b) JOIN2(a, b)
#define NAME(suffix) JOIN(NAME_, suffix)

__thread unsigned long NAME(exported);
__thread unsigned long NAME(initialised) = 17;
static __thread unsigned long NAME(hidden);

void NAME(set_exported)(unsigned long value) { NAME(exported) = value; }
void NAME(set_initialised)(unsigned long value) { NAME(initialised) = value; }
void NAME(set_hidden)(unsigned long value) { NAME(hidden) = value; }
unsigned long NAME(sum)(void) { return NAME(exported) + NAME(initialised) + NAME(hidden); }
