// Checks fp8_mul against a $readmemh file by itself: one word a row, {a, b, result, flags}, 8 bits each.
//
//   iverilog -g2012 -o sim -Ptb_fp8_mul_readmemh.ROWS=1234 fp8_mul.v tb_fp8_mul_readmemh.v
//   vvp -n sim +vectors=e4m3fn_mul.mem         the last line says PASS or FAIL; after FAIL vvp exits with 1
module tb_fp8_mul_readmemh;
    parameter ROWS = 1;
    parameter E5M2 = 0;
    parameter SATURATE = !E5M2;
    parameter BUG = "NONE";

    reg [8*1024-1:0] vectors;            // path
    reg [31:0] memory [0:ROWS-1];
    integer row, failures;
    reg [7:0] a, b, expected, expected_flags;
    wire [7:0] result;
    wire [4:0] flags;

    fp8_mul #(.E5M2(E5M2), .SATURATE(SATURATE), .BUG(BUG)) unit (.a(a), .b(b), .result(result), .flags(flags));

    initial begin
        if (!$value$plusargs("vectors=%s", vectors)) $fatal(0, "+vectors=FILE is needed");
        $readmemh(vectors, memory, 0, ROWS - 1);
        failures = 0;
        for (row = 0; row < ROWS; row = row + 1) begin
            {a, b, expected, expected_flags} = memory[row];
            #1 if (result !== expected || {3'b0, flags} !== expected_flags) begin   // !== also where a row is missing
                failures = failures + 1;
                if (failures <= 10)
                    $display("row %0d: %h * %h gives %h flags %h, expected %h flags %h", row + 1, a, b, result,
                             {3'b0, flags}, expected, expected_flags);
            end
        end
        if (failures) $fatal(0, "FAIL: %0d of %0d rows", failures, ROWS);
        $display("PASS: %0d rows", ROWS);
        $finish(0);
    end
endmodule
