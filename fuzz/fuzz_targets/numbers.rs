//! What a seed stands for.

pub struct Rng(pub u64);

impl Rng {
    fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    #[allow(dead_code, reason = "not every target needs plain numbers")]
    pub fn float(&mut self) -> f32 {
        (self.word() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    /// Mostly ordinary values of a magnitude, `2^(exponent / 2)`; `specials` of 256 any bit pattern at all.
    pub fn inputs(&mut self, len: usize, specials: u8, exponent: i8) -> Vec<f32> {
        let magnitude = f32::exp2(f32::from(exponent) / 2.0);
        let value = |rng: &mut Self| match (rng.word() & 255) as u8 {
            byte if byte < specials => f32::from_bits(rng.word() as u32),
            _ => rng.float() * magnitude,
        };
        (0..len).map(|_| value(self)).collect()
    }
}
