"""The figures we claim, measured in one run on the machine at hand. `scripts/bench` prints and keeps them."""
