// Checks mx_dot against a $readmemh file by itself: one word a row, the first operand in its most significant bits,
// {a, a_scale, b, b_scale, result, flags}; codes of 4 or 8 bits, flags of 8.
//
//   iverilog -g2012 -o sim -Ptb_mx_dot_readmemh.ROWS=1234 mx_dot.v tb_mx_dot_readmemh.v
//   vvp -n sim +vectors=mxfp8_e4m3_dot32.mem   the last line says PASS or FAIL; after FAIL vvp exits with 1
module tb_mx_dot_readmemh;
    parameter ROWS = 1;
    parameter FP4 = 0;
    parameter L = 32;
    parameter BUG = "NONE";
    localparam W = FP4 ? 4 : 8;

    reg [8*1024-1:0] vectors;            // path
    reg [2*L*W+55:0] memory [0:ROWS-1];
    integer row, failures;
    reg [L*W-1:0] a, b;
    reg [7:0] scale_a, scale_b, expected_flags;
    reg [31:0] expected;
    wire [31:0] result;
    wire [4:0] flags;

    mx_dot #(.FP4(FP4), .L(L), .BUG(BUG)) unit (
        .a(a), .scale_a(scale_a), .b(b), .scale_b(scale_b), .result(result), .flags(flags)
    );

    initial begin
        if (!$value$plusargs("vectors=%s", vectors)) $fatal(0, "+vectors=FILE is needed");
        $readmemh(vectors, memory, 0, ROWS - 1);
        failures = 0;
        for (row = 0; row < ROWS; row = row + 1) begin
            {a, scale_a, b, scale_b, expected, expected_flags} = memory[row];
            #1 if (result !== expected || {3'b0, flags} !== expected_flags) begin   // !== also where a row is missing
                failures = failures + 1;
                if (failures <= 10)
                    $display("row %0d: %h flags %h, expected %h flags %h", row + 1, result, {3'b0, flags}, expected,
                             expected_flags);
            end
        end
        if (failures) $fatal(0, "FAIL: %0d of %0d rows", failures, ROWS);
        $display("PASS: %0d rows", ROWS);
        $finish(0);
    end
endmodule
