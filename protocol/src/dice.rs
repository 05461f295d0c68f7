//! Numbers for simulations in tests: each run is made again from its seed alone, on every machine.

/// xorshift64*.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Below `sides`.
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % sides
    }

    /// From `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.roll(high - low + 1)
    }

    /// A place in a list of this length, which is not empty.
    pub(crate) fn pick(&mut self, length: usize) -> usize {
        // Lengths fit into 64 bits, and what is below one fits where it did.
        let place = u64::try_from(length).ok().and_then(|length| usize::try_from(self.roll(length)).ok());
        place.unwrap_or_default()
    }
}
