/* The machine's own arithmetic over arrays of bit patterns: results and exception flags in four rounding modes.
 *
 * cc -shared -fPIC -O1 -frounding-math -ffp-contract=off -fno-math-errno fpu.c -lm
 *
 * Operands and results are volatile, so that no operation is folded, or moved past the calls that set the mode and
 * read the flags. Flags come back in TestFloat's order: 16 invalid, 8 division by zero, 4 overflow, 2 underflow,
 * 1 inexact. Modes: 0 ties to even, 1 toward zero, 2 toward negative, 3 toward positive.
 */
#include <fenv.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum operation { ADD, SUB, MUL, DIV, SQRT, FMA };

static const int MODES[] = {FE_TONEAREST, FE_TOWARDZERO, FE_DOWNWARD, FE_UPWARD};

static uint8_t raised(void)
{
    int set = fetestexcept(FE_ALL_EXCEPT);
    return (set & FE_INVALID ? 16 : 0) | (set & FE_DIVBYZERO ? 8 : 0) | (set & FE_OVERFLOW ? 4 : 0)
         | (set & FE_UNDERFLOW ? 2 : 0) | (set & FE_INEXACT ? 1 : 0);
}

/* NAME(operation, mode, n, a, b, c, results, flags); -1 if the mode cannot be set. */
#define OVER_ARRAYS(NAME, FLOAT, PATTERN, SQRT_FUNCTION, FMA_FUNCTION)                                              \
    int NAME(int operation, int mode, size_t n, const PATTERN *a, const PATTERN *b, const PATTERN *c,               \
             PATTERN *results, uint8_t *flags)                                                                      \
    {                                                                                                               \
        int before = fegetround();                                                                                  \
        if (fesetround(MODES[mode]) != 0)                                                                           \
            return -1;                                                                                              \
        for (size_t i = 0; i < n; i++) {                                                                            \
            volatile FLOAT x, y, z, result = 0;                                                                     \
            memcpy((void *)&x, a + i, sizeof x);                                                                    \
            memcpy((void *)&y, b + i, sizeof y);                                                                    \
            memcpy((void *)&z, c + i, sizeof z);                                                                    \
            feclearexcept(FE_ALL_EXCEPT);                                                                           \
            switch (operation) {                                                                                    \
            case ADD: result = x + y; break;                                                                        \
            case SUB: result = x - y; break;                                                                        \
            case MUL: result = x * y; break;                                                                        \
            case DIV: result = x / y; break;                                                                        \
            case SQRT: result = SQRT_FUNCTION(x); break;                                                            \
            case FMA: result = FMA_FUNCTION(x, y, z); break;                                                        \
            }                                                                                                       \
            flags[i] = raised();                                                                                    \
            memcpy(results + i, (const void *)&result, sizeof result);                                              \
        }                                                                                                           \
        feclearexcept(FE_ALL_EXCEPT);                                                                               \
        return fesetround(before);                                                                                  \
    }

OVER_ARRAYS(binary32, float, uint32_t, sqrtf, fmaf)
OVER_ARRAYS(binary64, double, uint64_t, sqrt, fma)
