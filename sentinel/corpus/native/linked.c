/* Thread-locals of a C file that is linked into the program. */

__thread long c_zero;
__thread long c_initialised = 41;
static __thread struct { int a; char b[20]; } c_struct;
static __thread char c_bytes[64] = "initial";

void c_set_zero(unsigned long value) { c_zero = (long)value; }
void c_set_initialised(unsigned long value) { c_initialised = (long)value; }
void c_set_struct(unsigned long value) { c_struct.a = (int)value; c_struct.b[19] = (char)value; }
void c_set_bytes(unsigned long value) { c_bytes[value % 64] ^= (char)(value | 1); }
void c_set_in_function(unsigned long value) {
    static __thread unsigned long c_in_function;
    c_in_function = value;
    __asm__ volatile("" : : "r"(&c_in_function) : "memory");
}
/* Keeps the compiler from dropping what nobody reads. */
long c_sum(void) { return c_zero + c_initialised + c_struct.a + c_struct.b[19] + c_bytes[9]; }
