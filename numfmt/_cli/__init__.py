"""The commands of `nfmt`, one module each; `numfmt.cli` puts them together."""
