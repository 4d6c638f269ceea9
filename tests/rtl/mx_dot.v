// Dot product of two MX blocks: L elements of E4M3 (FP4 = 0) or E2M1 (FP4 = 1) and one E8M0 scale each. The sum of the
// products is exact, in fixed point, and rounded once, ties to even, to binary32. An exact zero is +0; -0 where every
// product is -0.
// BUG plants one of the mistakes that such units are built with; "NONE" is the right design.
//
//   element × element  =  integer · 2^LSB                 E4M3: 2^-9 · 2^-9, E2M1: 2^-1 · 2^-1
//   result             =  Σ integers · 2^(scale_a - 127 + scale_b - 127 + LSB)
//
// flags: 16 invalid, 8 division by zero, 4 overflow, 2 underflow (tiny after rounding), 1 inexact
module mx_dot #(
    parameter FP4 = 0,
    parameter L = 32,
    parameter BUG = "NONE",
    parameter W = FP4 ? 4 : 8     // bits of an element
) (
    input  [L*W-1:0] a,           // element 0 in the most significant bits
    input  [7:0] scale_a,
    input  [L*W-1:0] b,
    input  [7:0] scale_b,
    output reg [31:0] result,
    output reg [4:0] flags
);
    localparam T = FP4 ? 1 : 3;   // bits of an element's trailing significand
    localparam LSB = FP4 ? -2 : -18;
    localparam [31:0] NAN = 32'h7FC00000;
    localparam [31:0] INFINITY = 32'h7F800000;
    localparam S = 48;            // width of the sum: 36 bits of product, 5 of carry, sign, and some to spare

    localparam WRONG_TIE = BUG == "WRONG_TIE";                       // ties away from zero
    localparam LOST_STICKY = BUG == "LOST_STICKY";                   // what is beyond the guard bit is forgotten
    localparam FLUSH_OPERAND = BUG == "FLUSH_OPERAND";               // subnormal elements are zeros
    localparam FLUSH_RESULT = BUG == "FLUSH_RESULT";                 // subnormal results are zeros
    localparam SIGN_OF_ZERO = BUG == "SIGN_OF_ZERO";                 // an exact zero has the sign of the last product
    localparam SATURATION = BUG == "SATURATION";                     // beyond the range the largest finite value
    localparam DOUBLE_ROUNDING = BUG == "DOUBLE_ROUNDING";           // a subnormal result is rounded before the shift
    localparam NARROW_ACCUMULATOR = BUG == "NARROW_ACCUMULATOR";     // no room for the carries of the sum
    localparam TRUNCATION = BUG == "TRUNCATION";                     // toward zero
    localparam SCALE_NAN = BUG == "SCALE_NAN";                       // scale 0xFF is a power of two

    // Significand of an element as an integer, in units of its least subnormal.
    function [17:0] magnitude(input [W-1:0] code);
        reg [W-T-2:0] e;
        begin
            e = code[W-2:T];
            if (e == 0) magnitude = FLUSH_OPERAND ? 0 : code[T-1:0];
            else magnitude = {1'b1, code[T-1:0]} << (e - 1);
        end
    endfunction

    function rounds_up(input last, input guard, input sticky);
        rounds_up = TRUNCATION ? 1'b0 : WRONG_TIE ? guard : guard && (sticky && !LOST_STICKY || last);
    endfunction

    integer i, lsb, top, exponent, shift;
    reg [W-1:0] x, y;
    reg nan, negative, last_sign, minus_zero, guard, sticky, tiny, inexact, rounded;
    reg [35:0] product;
    reg signed [S-1:0] sum;
    reg [S-1:0] m;
    reg [2*S-1:0] aligned;                // kept bits in the upper half, what is dropped in the lower half
    reg [24:0] free;                      // kept bits if the exponent had no lower end
    reg [39:0] code;

    // Significand of m rounded to the quantum that lies `places` above its lsb, and what was dropped.
    task split(input [S-1:0] of, input integer places);
        begin
            aligned = {of, {S{1'b0}}};
            aligned = places > S ? |of : places >= 0 ? aligned >> places : aligned << -places;
            guard = aligned[S-1];
            sticky = |aligned[S-2:0];
        end
    endtask

    always @* begin
        nan = !SCALE_NAN && (scale_a == 8'hFF || scale_b == 8'hFF);
        sum = 0;
        last_sign = 0;
        minus_zero = 1;
        for (i = L - 1; i >= 0; i = i - 1) begin
            x = a[i*W +: W];
            y = b[i*W +: W];
            if (!FP4 && (&x[W-2:0] || &y[W-2:0])) nan = 1;
            product = magnitude(x) * magnitude(y);
            last_sign = x[W-1] ^ y[W-1];
            minus_zero = minus_zero && last_sign && product == 0;
            if (last_sign) sum = sum - $signed({1'b0, product});
            else sum = sum + $signed({1'b0, product});
            if (NARROW_ACCUMULATOR) sum = FP4 ? $signed(sum[8:0]) : $signed(sum[36:0]);
        end

        negative = sum < 0;
        m = negative ? -sum : sum;
        lsb = scale_a + scale_b;
        lsb = lsb - 254 + LSB;
        top = 0;
        for (i = 0; i < S; i = i + 1)
            if (m[i]) top = i;
        exponent = lsb + top + 127;       // biased

        split(m, top - 23);
        free = aligned[S +: 25] + rounds_up(aligned[S], guard, sticky);
        rounded = 0;
        tiny = exponent < 1 && !(exponent == 0 && free[24]);
        if (DOUBLE_ROUNDING && exponent < 1) begin
            rounded = guard || sticky;
            m = free;
            lsb = lsb + top - 23;
            top = free[24] ? 24 : 23;
            exponent = lsb + top + 127;
        end

        shift = exponent < 1 ? -149 - lsb : top - 23;
        split(m, shift);
        inexact = rounded || guard || sticky;
        // The leading one counts as 1 in the exponent field: a carry or a least normal comes out by itself.
        code = (exponent < 1 ? 0 : exponent - 1 << 23) + aligned[S +: 25] + rounds_up(aligned[S], guard, sticky);
        result = {negative, code[30:0]};
        flags = {3'b0, tiny && inexact, inexact};
        if (FLUSH_RESULT && code < 32'h00800000) result = {negative, 31'b0};
        if (code >= INFINITY) begin
            result = {negative, INFINITY[30:0] - SATURATION};
            flags = 5'b00101;
        end
        if (sum == 0) begin
            result = {SIGN_OF_ZERO ? last_sign : minus_zero, 31'b0};
            flags = 0;
        end
        if (nan) begin
            result = NAN;
            flags = 0;
        end
    end
endmodule
