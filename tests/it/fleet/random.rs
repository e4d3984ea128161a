//! Chance that can be had again: a small generator with a seed that a failing test prints.

/// SplitMix64, which needs no state but a number.
pub struct Random(u64);

impl Random {
    pub fn of(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below this one, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound).unwrap()).unwrap()
    }

    /// True once in so many times.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    /// Some of them, up to this many, each once and in order.
    pub fn some<T: Clone + Ord>(&mut self, of: &[T], most: usize) -> Vec<T> {
        if of.is_empty() {
            return Vec::new();
        }
        let mut some: Vec<T> = (0..self.below(most + 1)).map(|_| self.pick(of).clone()).collect();
        some.sort();
        some.dedup();
        some
    }
}
