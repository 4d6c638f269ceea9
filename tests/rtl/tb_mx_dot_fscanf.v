// Feeds a file of TestFloat text to mx_dot and writes what it answers, in the same syntax, a code a column:
//
//   a0 ... a31 a_scale b0 ... b31 b_scale result flags
//
//   iverilog -g2012 -o sim -Ptb_mx_dot_fscanf.FP4=1 mx_dot.v tb_mx_dot_fscanf.v
//   vvp -n sim +vectors=mxfp4_dot32.txt +answers=answers.txt
//   nfmt vectors check answers.txt --function mxfp4_dot32
module tb_mx_dot_fscanf;
    parameter FP4 = 0;
    parameter L = 32;
    parameter BUG = "NONE";
    localparam W = FP4 ? 4 : 8;

    reg [8*1024-1:0] vectors, answers;   // paths
    integer in, out, fields, rows, i;
    reg [L*W-1:0] a, b;
    reg [W-1:0] code;
    reg [7:0] scale_a, scale_b, expected_flags;
    reg [31:0] expected;
    wire [31:0] result;
    wire [4:0] flags;

    mx_dot #(.FP4(FP4), .L(L), .BUG(BUG)) unit (
        .a(a), .scale_a(scale_a), .b(b), .scale_b(scale_b), .result(result), .flags(flags)
    );

    // One row; `fields` counts the columns that are there.
    task read_row;
        begin
            fields = 0;
            for (i = 0; i < L; i = i + 1) begin
                if ($fscanf(in, " %h", code) == 1) fields = fields + 1;
                a = {a, code};
            end
            if ($fscanf(in, " %h", scale_a) == 1) fields = fields + 1;
            for (i = 0; i < L; i = i + 1) begin
                if ($fscanf(in, " %h", code) == 1) fields = fields + 1;
                b = {b, code};
            end
            if ($fscanf(in, " %h %h %h", scale_b, expected, expected_flags) == 3) fields = fields + 3;
        end
    endtask

    task write_row;
        begin
            for (i = 0; i < L; i = i + 1) $fwrite(out, "%h ", a[(L-1-i)*W +: W]);
            $fwrite(out, "%h ", scale_a);
            for (i = 0; i < L; i = i + 1) $fwrite(out, "%h ", b[(L-1-i)*W +: W]);
            $fwrite(out, "%h %h %h\n", scale_b, result, {3'b0, flags});
        end
    endtask

    initial begin
        if (!$value$plusargs("vectors=%s", vectors) || !$value$plusargs("answers=%s", answers))
            $fatal(0, "+vectors=FILE and +answers=FILE are needed");
        in = $fopen(vectors, "r");
        out = $fopen(answers, "w");
        if (in == 0 || out == 0) $fatal(0, "a file cannot be opened");
        rows = 0;
        read_row;
        while (fields == 2 * L + 4) begin
            #1 write_row;
            rows = rows + 1;
            read_row;
        end
        if (fields > 0 || !$feof(in)) $fatal(0, "row %0d of the vectors has no %0d columns", rows + 1, 2 * L + 4);
        $fclose(out);
        $display("%0d rows", rows);
        $finish(0);
    end
endmodule
