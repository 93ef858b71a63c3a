"""Side-by-side benchmarks: ours and its peers in one interleaved run. See C{README.md} beside this file."""
