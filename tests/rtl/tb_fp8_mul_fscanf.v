// Feeds a file of TestFloat text to fp8_mul and writes what it answers, in the same syntax.
//
//   iverilog -g2012 -o sim -Ptb_fp8_mul_fscanf.E5M2=0 fp8_mul.v tb_fp8_mul_fscanf.v
//   vvp -n sim +vectors=e4m3fn_mul.txt +answers=answers.txt
//   nfmt vectors check answers.txt --function e4m3fn_mul
module tb_fp8_mul_fscanf;
    parameter E5M2 = 0;
    parameter SATURATE = !E5M2;
    parameter BUG = "NONE";

    reg [8*1024-1:0] vectors, answers;   // paths
    integer in, out, fields, rows;
    reg [7:0] a, b, expected, expected_flags;
    wire [7:0] result;
    wire [4:0] flags;

    fp8_mul #(.E5M2(E5M2), .SATURATE(SATURATE), .BUG(BUG)) unit (.a(a), .b(b), .result(result), .flags(flags));

    initial begin
        if (!$value$plusargs("vectors=%s", vectors) || !$value$plusargs("answers=%s", answers))
            $fatal(0, "+vectors=FILE and +answers=FILE are needed");
        in = $fopen(vectors, "r");
        out = $fopen(answers, "w");
        if (in == 0 || out == 0) $fatal(0, "a file cannot be opened");
        rows = 0;
        fields = $fscanf(in, "%h %h %h %h\n", a, b, expected, expected_flags);
        while (fields == 4) begin
            #1 $fdisplay(out, "%h %h %h %h", a, b, result, {3'b0, flags});
            rows = rows + 1;
            fields = $fscanf(in, "%h %h %h %h\n", a, b, expected, expected_flags);
        end
        if (fields > 0 || !$feof(in)) $fatal(0, "row %0d of the vectors has no 4 columns", rows + 1);
        $fclose(out);
        $display("%0d rows", rows);
        $finish(0);
    end
endmodule
