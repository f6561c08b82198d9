//! Arithmetic modulo 2^255 - 19 in constant time, as much as Elligator 2 needs.
//!
//! The limbs are fiat-crypto's, which are proved against the integers; dalek keeps its own field to itself. Here are only
//! the powers that inversion and square roots take.

use fiat_crypto::curve25519_64 as fiat;
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

/// A number modulo 2^255 - 19.
#[derive(Clone, Copy)]
pub(crate) struct Fe(fiat::fiat_25519_tight_field_element);

impl Fe {
    pub(crate) const ZERO: Self = Self::small(0);
    pub(crate) const ONE: Self = Self::small(1);
    /// The coefficient of the curve: v^2 = u^3 + A u^2 + u.
    pub(crate) const A: Self = Self::small(486_662);

    const fn small(n: u64) -> Self {
        assert!(n < 1 << 51, "fits the first limb");
        Self(fiat::fiat_25519_tight_field_element([n, 0, 0, 0, 0]))
    }

    /// The number whose little-endian form is `bytes`, its highest bit ignored (as X25519 does).
    pub(crate) fn from_bytes(bytes: &[u8; 32]) -> Self {
        let mut low = *bytes;
        low[31] &= 0x7f;
        let mut out = Self::ZERO;
        fiat::fiat_25519_from_bytes(&mut out.0, &low);
        out
    }

    /// The one little-endian form below 2^255 - 19.
    pub(crate) fn to_bytes(self) -> [u8; 32] {
        let mut out = [0; 32];
        fiat::fiat_25519_to_bytes(&mut out, &self.0);
        out
    }

    fn loose(self) -> fiat::fiat_25519_loose_field_element {
        let mut out = fiat::fiat_25519_loose_field_element([0; 5]);
        fiat::fiat_25519_relax(&mut out, &self.0);
        out
    }

    fn carry(loose: &fiat::fiat_25519_loose_field_element) -> Self {
        let mut out = Self::ZERO;
        fiat::fiat_25519_carry(&mut out.0, loose);
        out
    }

    pub(crate) fn add(self, other: Self) -> Self {
        let mut out = fiat::fiat_25519_loose_field_element([0; 5]);
        fiat::fiat_25519_add(&mut out, &self.0, &other.0);
        Self::carry(&out)
    }

    pub(crate) fn neg(self) -> Self {
        let mut out = fiat::fiat_25519_loose_field_element([0; 5]);
        fiat::fiat_25519_opp(&mut out, &self.0);
        Self::carry(&out)
    }

    pub(crate) fn mul(self, other: Self) -> Self {
        let mut out = Self::ZERO;
        fiat::fiat_25519_carry_mul(&mut out.0, &self.loose(), &other.loose());
        out
    }

    pub(crate) fn square(self) -> Self {
        let mut out = Self::ZERO;
        fiat::fiat_25519_carry_square(&mut out.0, &self.loose());
        out
    }

    /// Squares `times` times.
    fn squares(self, times: u32) -> Self {
        (0..times).fold(self, |x, _| x.square())
    }

    /// x^(2^250 - 1) and x^11: what the exponents below have in common.
    fn powers(self) -> (Self, Self) {
        let x2 = self.square();
        let x9 = x2.squares(2).mul(self);
        let x11 = x9.mul(x2);
        let ones5 = x11.square().mul(x9); // 2^5 - 1
        let ones10 = ones5.squares(5).mul(ones5);
        let ones20 = ones10.squares(10).mul(ones10);
        let ones40 = ones20.squares(20).mul(ones20);
        let ones50 = ones40.squares(10).mul(ones10);
        let ones100 = ones50.squares(50).mul(ones50);
        let ones200 = ones100.squares(100).mul(ones100);
        (ones200.squares(50).mul(ones50), x11)
    }

    /// 1/x; zero has 0. The exponent is p - 2 = 2^255 - 21.
    pub(crate) fn invert(self) -> Self {
        let (ones250, x11) = self.powers();
        ones250.squares(5).mul(x11)
    }

    /// Whether x is a square; zero is one. The exponent is (p - 1) / 2 = 2^254 - 10.
    pub(crate) fn is_square(self) -> Choice {
        let (ones250, _) = self.powers();
        let x2 = self.square();
        let chi = ones250.squares(4).mul(x2.square().mul(x2));
        !chi.ct_eq(&Self::ONE.neg())
    }

    /// A square root of 1/x, and whether there is one; there is none for zero. Which of the two is not said.
    pub(crate) fn inverse_sqrt(self) -> (Choice, Self) {
        let x3 = self.square().mul(self);
        let x7 = x3.square().mul(self);
        // x^3 (x^7)^((p - 5) / 8), where (p - 5) / 8 = 2^252 - 3: a fourth root of unity away from the answer.
        let candidate = x3.mul(x7.powers().0.squares(2).mul(x7));
        let check = self.mul(candidate.square());
        let turned = candidate.mul(Self::sqrt_minus_one());
        let is_one = check.ct_eq(&Self::ONE);
        let is_minus_one = check.ct_eq(&Self::ONE.neg());
        (
            is_one | is_minus_one,
            Self::conditional_select(&candidate, &turned, is_minus_one),
        )
    }

    /// 2^((p - 1) / 4): 2 is no square modulo p, so the square of this is -1.
    fn sqrt_minus_one() -> Self {
        Self::from_bytes(&SQRT_MINUS_ONE)
    }

    /// The lowest bit of [`Fe::to_bytes`].
    pub(crate) fn is_odd(self) -> Choice {
        Choice::from(self.to_bytes()[0] & 1)
    }
}

impl ConditionallySelectable for Fe {
    fn conditional_select(a: &Self, b: &Self, choice: Choice) -> Self {
        let mut out = [0; 5];
        fiat::fiat_25519_selectznz(&mut out, choice.unwrap_u8(), &a.0.0, &b.0.0);
        Self(fiat::fiat_25519_tight_field_element(out))
    }
}

impl ConstantTimeEq for Fe {
    fn ct_eq(&self, other: &Self) -> Choice {
        self.to_bytes().ct_eq(&other.to_bytes())
    }
}

const SQRT_MINUS_ONE: [u8; 32] = [
    0xb0, 0xa0, 0x0e, 0x4a, 0x27, 0x1b, 0xee, 0xc4, 0x78, 0xe4, 0x2f, 0xad, 0x06, 0x18, 0x43, 0x2f, 0xa7,
    0xd7, 0xfb, 0x3d, 0x99, 0x00, 0x4d, 0x2b, 0x0b, 0xdf, 0xc1, 0x4f, 0x80, 0x24, 0x83, 0x2b,
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn same(a: Fe, b: Fe) -> bool {
        a.ct_eq(&b).into()
    }

    #[test]
    fn the_square_of_the_root_of_minus_one_is_minus_one() {
        assert!(same(Fe::sqrt_minus_one().square(), Fe::ONE.neg()));
    }

    #[test]
    fn zero_is_a_square_without_inverse_root() {
        assert!(bool::from(Fe::ZERO.is_square()));
        assert!(!bool::from(Fe::ZERO.inverse_sqrt().0));
        assert!(same(Fe::ZERO.invert(), Fe::ZERO));
    }

    #[test]
    fn the_form_is_reduced() {
        let mut p = [0xff; 32];
        p[0] = 0xed;
        assert_eq!(
            Fe::from_bytes(&p).to_bytes(),
            [0; 32],
            "p is zero, and the highest bit is ignored"
        );
    }

    proptest! {
        #[test]
        fn a_number_times_its_inverse_is_one(bytes: [u8; 32]) {
            let x = Fe::from_bytes(&bytes);
            prop_assume!(!same(x, Fe::ZERO));
            prop_assert!(same(x.mul(x.invert()), Fe::ONE));
            prop_assert!(same(x.add(x.neg()), Fe::ZERO));
        }

        #[test]
        fn squares_have_roots_and_twice_a_square_has_none(bytes: [u8; 32]) {
            let x = Fe::from_bytes(&bytes);
            prop_assume!(!same(x, Fe::ZERO));
            let square = x.square();
            let (found, root) = square.inverse_sqrt();
            prop_assert!(bool::from(found & square.is_square()));
            prop_assert!(same(root.square().mul(square), Fe::ONE));
            let twice = square.add(square);
            prop_assert!(!bool::from(twice.is_square() | twice.inverse_sqrt().0));
        }
    }
}
