/* The x86 instructions that `nfmt selftest --hardware` and the tests judge numfmt by.

   Compiled where it runs (numfmt/hardware.py), never at installation or import. Every instruction is written out in
   assembly, so that no compiler chooses another one, folds it, or moves it across a change of MXCSR.

   Operands and results are arrays of codes. `control` holds the bits of MXCSR that the instruction runs under: rounding in
   bits 13 and 14, flush to zero in bit 15, denormals are zero in bit 6; all exceptions are masked. Where `flags` is given,
   each element is converted alone and the exceptions that it raised go there in TestFloat's order: 16 invalid, 8 division by
   zero, 4 overflow, 2 underflow, 1 inexact. */

#include <stdint.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <string.h>

#define MASKED 0x1F80u

static void set_control(unsigned control) { __asm__ volatile("ldmxcsr %0" ::"m"(control)); }

static unsigned get_control(void) {
    unsigned control;
    __asm__ volatile("stmxcsr %0" : "=m"(control));
    return control;
}

/* MXCSR has invalid, denormal, division by zero, overflow, underflow, inexact in bits 0 to 5. */
static uint8_t raised(void) {
    unsigned m = get_control();
    return (uint8_t)((m & 1) << 4 | (m >> 2 & 1) << 3 | (m >> 3 & 1) << 2 | (m >> 4 & 1) << 1 | (m >> 5 & 1));
}

/* 1 if the processor has the feature and the system saves the registers that it needs, else 0. */
static int has(const char *feature) {
    unsigned a, b, c = 0, d, seven = 0, low = 0, high = 0; /* c of leaves 1 and 7; a and d of leaf 7.1 */
    __builtin_cpu_init();
    __get_cpuid(1, &a, &b, &c, &d);
    if (!__get_cpuid_count(7, 0, &a, &b, &seven, &d)) seven = 0;
    if (!__get_cpuid_count(7, 1, &low, &b, &a, &high)) low = high = 0;
    if (!strcmp(feature, "f16c")) return __builtin_cpu_supports("avx") && (c >> 29 & 1);
    if (!strcmp(feature, "fma")) return __builtin_cpu_supports("avx") && (c >> 12 & 1);
    if (!strcmp(feature, "bf16")) return __builtin_cpu_supports("avx512vl") && (low >> 5 & 1);
    if (!strcmp(feature, "vnni")) return __builtin_cpu_supports("avx512vl") && (seven >> 11 & 1);
    if (!strcmp(feature, "avx_vnni")) return __builtin_cpu_supports("avx2") && (low >> 4 & 1);
    if (!strcmp(feature, "ne_convert")) return __builtin_cpu_supports("avx2") && (high >> 5 & 1);
    return 0;
}

/* Each loop runs one instruction over 8 elements at a time (n is a multiple of 8), or one element at a time with flags. */
#define CONVERT(NAME, IN, OUT, LOAD, LOAD_ONE, INSTRUCTION, STORE, STORE_ONE)                                        \
    static void NAME(const IN *x, OUT *out, uint8_t *flags, long n, unsigned control) {                              \
        if (!flags) {                                                                                                \
            for (long i = 0; i < n; i += 8)                                                                          \
                __asm__ volatile(LOAD INSTRUCTION STORE ::"r"(x + i), "r"(out + i) : "xmm0", "memory");              \
        } else {                                                                                                     \
            for (long i = 0; i < n; i++) {                                                                           \
                set_control(control);                                                                                \
                __asm__ volatile(LOAD_ONE INSTRUCTION STORE_ONE ::"r"(x + i), "r"(out + i) : "xmm0", "rax", "memory"); \
                flags[i] = raised();                                                                                 \
            }                                                                                                        \
        }                                                                                                            \
        __asm__ volatile("vzeroupper" ::: "memory");                                                                 \
    }
#define NARROW(NAME, INSTRUCTION)                                                                                     \
    CONVERT(NAME, uint32_t, uint16_t, "vmovdqu (%0), %%ymm0\n", "vmovd (%0), %%xmm0\n", INSTRUCTION,                  \
            "vmovdqu %%xmm0, (%1)\n", "vmovd %%xmm0, %%eax\nmovw %%ax, (%1)\n")

NARROW(bf16_evex, "vcvtneps2bf16 %%ymm0, %%xmm0\n")
NARROW(bf16_vex, ".byte 0xc4, 0xe2, 0x7e, 0x72, 0xc0\n") /* the same in its VEX form, which few assemblers know */
NARROW(half_0, "vcvtps2ph $0, %%ymm0, %%xmm0\n")         /* to nearest, ties to even */
NARROW(half_1, "vcvtps2ph $1, %%ymm0, %%xmm0\n")         /* toward negative */
NARROW(half_2, "vcvtps2ph $2, %%ymm0, %%xmm0\n")         /* toward positive */
NARROW(half_3, "vcvtps2ph $3, %%ymm0, %%xmm0\n")         /* toward zero */
NARROW(half_4, "vcvtps2ph $4, %%ymm0, %%xmm0\n")         /* as MXCSR says */
CONVERT(widen, uint16_t, uint32_t, "vmovdqu (%0), %%xmm0\n", "movzwl (%0), %%eax\nvmovd %%eax, %%xmm0\n",
        "vcvtph2ps %%xmm0, %%ymm0\n", "vmovdqu %%ymm0, (%1)\n", "vmovd %%xmm0, (%1)\n")

/* a·b + c with one rounding. 213 multiplies operand 2 by operand 1 and adds operand 3, and of several NaNs takes the first in
   that order: a is operand 2. */
#define FMA(NAME, WORD, S)                                                                                           \
    static void NAME(const WORD *a, const WORD *b, const WORD *c, WORD *out, uint8_t *flags, long n,                 \
                     unsigned control) {                                                                             \
        for (long i = 0; i < n; i++) {                                                                               \
            if (flags) set_control(control);                                                                         \
            __asm__ volatile("vmovs" S " (%0), %%xmm1\nvmovs" S " (%1), %%xmm0\nvmovs" S " (%2), %%xmm2\n"           \
                             "vfmadd213s" S " %%xmm2, %%xmm1, %%xmm0\nvmovs" S " %%xmm0, (%3)\n" ::"r"(a + i),       \
                             "r"(b + i), "r"(c + i), "r"(out + i)                                                    \
                             : "xmm0", "xmm1", "xmm2", "memory");                                                    \
            if (flags) flags[i] = raised();                                                                          \
        }                                                                                                            \
    }
FMA(fma_single, uint32_t, "s")
FMA(fma_double, uint64_t, "d")

/* c + a·b, a and b being words of several elements, which the instruction multiplies and adds. */
#define DOT(NAME, INSTRUCTION)                                                                                       \
    static void NAME(const uint32_t *a, const uint32_t *b, const uint32_t *c, uint32_t *out, uint8_t *flags, long n, \
                     unsigned control) {                                                                             \
        if (!flags) {                                                                                                \
            for (long i = 0; i < n; i += 8)                                                                          \
                __asm__ volatile("vmovdqu (%0), %%ymm1\nvmovdqu (%1), %%ymm2\nvmovdqu (%2), %%ymm0\n" INSTRUCTION    \
                                 "vmovdqu %%ymm0, (%3)\n" ::"r"(a + i), "r"(b + i), "r"(c + i), "r"(out + i)         \
                                 : "xmm0", "xmm1", "xmm2", "memory");                                                \
        } else {                                                                                                     \
            for (long i = 0; i < n; i++) {                                                                           \
                set_control(control);                                                                                \
                __asm__ volatile("vmovd (%0), %%xmm1\nvmovd (%1), %%xmm2\nvmovd (%2), %%xmm0\n" INSTRUCTION          \
                                 "vmovd %%xmm0, (%3)\n" ::"r"(a + i), "r"(b + i), "r"(c + i), "r"(out + i)           \
                                 : "xmm0", "xmm1", "xmm2", "memory");                                                \
                flags[i] = raised();                                                                                 \
            }                                                                                                        \
        }                                                                                                            \
        __asm__ volatile("vzeroupper" ::: "memory");                                                                 \
    }
/* In bytes: which of both encodings an assembler takes for a name depends on its age. */
DOT(dot_bf16, ".byte 0x62, 0xf2, 0x76, 0x28, 0x52, 0xc2\n") /* vdpbf16ps ymm0, ymm1, ymm2 */
DOT(dot_int8_evex, ".byte 0x62, 0xf2, 0x75, 0x28, 0x50, 0xc2\n") /* vpdpbusd ymm0, ymm1, ymm2 */
DOT(dot_int8_vex, ".byte 0xc4, 0xe2, 0x75, 0x50, 0xc2\n")
DOT(dot_int8_saturating_evex, ".byte 0x62, 0xf2, 0x75, 0x28, 0x51, 0xc2\n") /* vpdpbusds ymm0, ymm1, ymm2 */
DOT(dot_int8_saturating_vex, ".byte 0xc4, 0xe2, 0x75, 0x51, 0xc2\n")

/* Does the processor have what an instruction needs? */
int numfmt_has(const char *feature) { return has(feature); }

/* Float32 to bfloat16, in the encoding that the processor has. */
void numfmt_bf16(const uint32_t *x, uint16_t *out, uint8_t *flags, long n, unsigned control) {
    unsigned before = get_control();
    set_control(MASKED | control);
    (has("bf16") ? bf16_evex : bf16_vex)(x, out, flags, n, MASKED | control);
    set_control(before);
}

/* Float32 to float16; mode is the instruction's immediate: 0 to 3, or 4 for MXCSR's rounding. */
void numfmt_half(const uint32_t *x, uint16_t *out, uint8_t *flags, long n, unsigned control, int mode) {
    static void (*const of[5])(const uint32_t *, uint16_t *, uint8_t *, long, unsigned) = {half_0, half_1, half_2, half_3,
                                                                                           half_4};
    unsigned before = get_control();
    set_control(MASKED | control);
    of[mode](x, out, flags, n, MASKED | control);
    set_control(before);
}

/* Float16 to float32. */
void numfmt_widen(const uint16_t *x, uint32_t *out, uint8_t *flags, long n, unsigned control) {
    unsigned before = get_control();
    set_control(MASKED | control);
    widen(x, out, flags, n, MASKED | control);
    set_control(before);
}

void numfmt_fma32(const uint32_t *a, const uint32_t *b, const uint32_t *c, uint32_t *out, uint8_t *flags, long n,
                  unsigned control) {
    unsigned before = get_control();
    set_control(MASKED | control);
    fma_single(a, b, c, out, flags, n, MASKED | control);
    set_control(before);
}

void numfmt_fma64(const uint64_t *a, const uint64_t *b, const uint64_t *c, uint64_t *out, uint8_t *flags, long n,
                  unsigned control) {
    unsigned before = get_control();
    set_control(MASKED | control);
    fma_double(a, b, c, out, flags, n, MASKED | control);
    set_control(before);
}

/* Pairs of bfloat16, the even element in the lower half of a word, added to float32. */
void numfmt_dot_bf16(const uint32_t *a, const uint32_t *b, const uint32_t *c, uint32_t *out, uint8_t *flags, long n,
                     unsigned control) {
    unsigned before = get_control();
    set_control(MASKED | control);
    dot_bf16(a, b, c, out, flags, n, MASKED | control);
    set_control(before);
}

/* Four bytes of a without and of b with sign, added to int32: modulo 2^32, and saturated. */
void numfmt_dot_int8(const uint32_t *a, const uint32_t *b, const uint32_t *c, uint32_t *out, uint8_t *flags, long n,
                     unsigned control) {
    unsigned before = get_control();
    set_control(MASKED | control);
    (has("vnni") ? dot_int8_evex : dot_int8_vex)(a, b, c, out, flags, n, MASKED | control);
    set_control(before);
}

void numfmt_dot_int8_saturating(const uint32_t *a, const uint32_t *b, const uint32_t *c, uint32_t *out, uint8_t *flags,
                                long n, unsigned control) {
    unsigned before = get_control();
    set_control(MASKED | control);
    (has("vnni") ? dot_int8_saturating_evex : dot_int8_saturating_vex)(a, b, c, out, flags, n, MASKED | control);
    set_control(before);
}
#else /* none of them is here */
int numfmt_has(const char *feature) {
    (void)feature;
    return 0;
}
#endif
