/* Thread-locals of a shared library. NAME_ tells its variants apart. */

#define JOIN2(a, b) a##b
#define JOIN(a, b) JOIN2(a, b)
#define NAME(suffix) JOIN(NAME_, suffix)

#ifdef ROOM_
__thread char NAME(room)[ROOM_];
#endif
__thread unsigned long NAME(exported);
__thread unsigned long NAME(initialised) = 17;
static __thread unsigned long NAME(hidden);

void NAME(set_exported)(unsigned long value) { NAME(exported) = value; }
void NAME(set_initialised)(unsigned long value) { NAME(initialised) = value; }
void NAME(set_hidden)(unsigned long value) { NAME(hidden) = value; }
unsigned long NAME(sum)(void) { return NAME(exported) + NAME(initialised) + NAME(hidden); }

#if defined(HALFWAY_) || defined(CONSTRUCTOR_)
#include <sys/syscall.h>

/* Without libc, which cannot be called before the library is loaded. */
static long call(long number, long a, long b, long c) {
#if defined(__x86_64__)
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c)
                     : "rcx", "r11", "memory");
    return result;
#else
    register long x8 __asm__("x8") = number, x0 __asm__("x0") = a, x1 __asm__("x1") = b,
                  x2 __asm__("x2") = c;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
    return x0;
#endif
}

/* Tells on descriptor 198 that it is here, and waits for a byte on 199. */
static void wait_here(void) {
    char byte = 1;
    call(SYS_write, 198, (long)&byte, 1);
    call(SYS_read, 199, (long)&byte, 1);
}
#endif

#ifdef HALFWAY_
static void nothing(void) {}
/* Called while the library is relocated: it is listed already, and not loaded yet. */
static void (*resolve(void))(void) {
    wait_here();
    return nothing;
}
static void indirect(void) __attribute__((ifunc("resolve")));
void (*NAME(indirect))(void) = indirect;
#endif

#ifdef CONSTRUCTOR_
__attribute__((constructor)) static void constructor(void) { wait_here(); }
#endif
