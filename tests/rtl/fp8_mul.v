// An FP8 multiplier: E4M3 (OCP, finite, NaN 0x7F) or E5M2 (IEEE 754), ties to even, subnormals, IEEE flags.
// BUG plants one of the mistakes that such units are built with; "NONE" is the right design.
//
//   significands 1.xxx, leading one first:   a × b  =  1x.xxxxxx or 01.xxxxxx  →  1.xxxxxxx, exponent + 1 or + 0
//   below the least exponent the product is shifted right; then
//       kept bits | guard | sticky = OR of all the rest
//   rounds up where guard and (sticky or the last kept bit).
//
// flags: 16 invalid, 8 division by zero, 4 overflow, 2 underflow (tiny after rounding), 1 inexact
module fp8_mul #(
    parameter E5M2 = 0,           // 0: E4M3, 1: E5M2
    parameter SATURATE = !E5M2,   // beyond the range: 1 the largest finite value, 0 infinity or, in E4M3, NaN
    parameter BUG = "NONE"
) (
    input  [7:0] a,
    input  [7:0] b,
    output reg [7:0] result,
    output reg [4:0] flags
);
    localparam T = E5M2 ? 2 : 3;            // bits of the trailing significand
    localparam P = T + 1;                   // precision
    localparam W = 2 * P;                   // width of a product
    localparam BIAS = E5M2 ? 15 : 7;
    localparam [6:0] MAX = E5M2 ? 7'h7B : 7'h7E;
    localparam [6:0] INFINITY = 7'h7C;
    localparam [7:0] NAN = E5M2 ? 8'h7E : 8'h7F;

    localparam WRONG_TIE = BUG == "WRONG_TIE";                          // ties away from zero
    localparam TIE_TO_ZERO = BUG == "TIE_TO_ZERO";
    localparam LOST_STICKY = BUG == "LOST_STICKY";                      // what is beyond the guard bit is forgotten
    localparam LOST_SHIFTED_STICKY = BUG == "LOST_SHIFTED_STICKY";      // ... only what a subnormal result shifts out
    localparam DOUBLE_ROUNDING = BUG == "DOUBLE_ROUNDING";              // subnormal results are rounded before the shift
    localparam FLUSH_OPERAND = BUG == "FLUSH_OPERAND";                  // subnormal operands are zeros
    localparam FLUSH_RESULT = BUG == "FLUSH_RESULT";                    // subnormal results are zeros
    localparam SIGN_OF_ZERO = BUG == "SIGN_OF_ZERO";                    // a zero product is +0
    localparam SATURATION = BUG == "SATURATION";                        // beyond the range the other of the two answers
    localparam LOST_CARRY = BUG == "LOST_CARRY";                        // rounding up never reaches the next binade
    localparam NAN_BITS = BUG == "NAN_BITS";                            // a NaN operand comes out as it is
    localparam TININESS = BUG == "TININESS";                            // tiny before rounding
    localparam TRUNCATION = BUG == "TRUNCATION";                        // toward zero

    // Operands: leading one at bit T, and the exponent that this needs.
    function integer leading_zeros(input [T:0] m);
        integer i;
        begin
            leading_zeros = P;
            for (i = 0; i < P; i = i + 1)
                if (m[i]) leading_zeros = T - i;
        end
    endfunction

    wire sign = a[7] ^ b[7];
    wire [6-T:0] ea = a[6:T], eb = b[6:T];
    wire [T:0] ma = (ea == 0 && FLUSH_OPERAND) ? 0 : {ea != 0, a[T-1:0]};
    wire [T:0] mb = (eb == 0 && FLUSH_OPERAND) ? 0 : {eb != 0, b[T-1:0]};

    wire nan_a = E5M2 ? a[6:0] > INFINITY : a[6:0] == 7'h7F;
    wire nan_b = E5M2 ? b[6:0] > INFINITY : b[6:0] == 7'h7F;
    wire signaling = E5M2 && (nan_a && !a[1] || nan_b && !b[1]);
    wire infinite_a = E5M2 && a[6:0] == INFINITY;
    wire infinite_b = E5M2 && b[6:0] == INFINITY;
    wire zero = ma == 0 || mb == 0;

    integer za, zb, e, shift;
    reg [W-1:0] product, extended;          // extended: the product with its leading one at the top
    reg [2*W-1:0] aligned;                  // kept bits in the top P, as the quantum of the result wants them
    reg [P:0] kept, free;                   // one bit for the carry; free: kept if the exponent had no lower end
    reg guard, sticky, up, free_up, tiny, inexact, rounded;
    reg [7:0] magnitude;

    function rounds_up(input last, input g, input s);
        rounds_up = TRUNCATION ? 1'b0 : WRONG_TIE ? g : TIE_TO_ZERO ? g && s : g && (s || last);
    endfunction

    always @* begin
        za = leading_zeros(ma);
        zb = leading_zeros(mb);
        product = (ma << za) * (mb << zb);
        e = (ea == 0 ? 1 : ea) - za + (eb == 0 ? 1 : eb) - zb - BIAS + product[W-1];   // biased
        extended = product[W-1] ? product : product << 1;

        free = extended[W-1:P];
        free_up = rounds_up(free[0], extended[P-1], |extended[P-2:0]);
        rounded = 0;
        tiny = e < 1 && !(e == 0 && !TININESS && &free[P-1:0] && free_up);
        if (DOUBLE_ROUNDING && e < 1) begin
            rounded = |extended[P-1:0];
            free = free + free_up;
            extended = {free[P] ? {1'b1, {(P-1){1'b0}}} : free[P-1:0], {P{1'b0}}};
            e = e + free[P];
        end

        shift = e >= 1 ? 0 : e < 1 - W ? W : 1 - e;
        aligned = {extended, {W{1'b0}}} >> shift;
        kept = aligned[2*W-1:2*W-P];
        guard = aligned[2*W-P-1];
        sticky = |aligned[2*W-P-2:0];
        if (LOST_STICKY) sticky = 0;
        if (LOST_SHIFTED_STICKY && e < 1) sticky = |aligned[2*W-P-2:W];
        inexact = rounded || |aligned[2*W-P-1:0];
        up = rounds_up(kept[0], guard, sticky);
        if (LOST_CARRY && &kept[P-1:0]) up = 0;
        kept = kept + up;

        // The leading one counts as 1 in the exponent field: a carry or a least normal comes out by itself.
        magnitude = (e < 1 ? 0 : e - 1 << T) + kept;
        flags = {4'b0, inexact};
        result = {sign, magnitude[6:0]};
        if (magnitude > MAX) begin
            flags = 5'b00101;
            if ((SATURATE != 0) != SATURATION) result = {sign, MAX};
            else result = E5M2 ? {sign, INFINITY} : NAN;
        end else if (tiny && inexact) flags = 5'b00011;
        if (FLUSH_RESULT && magnitude < (1 << T)) result = {sign, 7'h00};

        if (zero) begin
            result = {sign && !SIGN_OF_ZERO, 7'h00};
            flags = 0;
        end
        if (infinite_a || infinite_b) begin
            // What a saturating conversion makes of an infinity.
            result = SATURATE ? {sign, MAX} : {sign, INFINITY};
            flags = SATURATE ? 5'b00101 : 5'b00000;
            if (zero) begin
                result = NAN;
                flags = 5'b10000;
            end
        end
        if (nan_a || nan_b) begin
            result = NAN_BITS ? (nan_a ? a : b) : NAN;
            flags = {signaling, 4'b0};
        end
    end
endmodule
