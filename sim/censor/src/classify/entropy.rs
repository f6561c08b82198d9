//! Entropy of bytes, in integers, so that it is the same everywhere.
//!
//! Shannon's entropy of the distribution of byte values, in thousandths of a bit per byte, 0 to 8000. A short text cannot
//! reach 8000: n bytes have at most log2(n) bits each.

/// Thousandths of a bit per byte, rounded down; 0 for no bytes. Off by at most one thousandth from the exact value.
pub fn millibits(bytes: &[u8]) -> u32 {
    // So that counts fit in 32 bits and sums in 64; nobody has a packet of 4 GiB.
    let bytes = &bytes[..bytes.len().min(u32::MAX as usize)];
    let mut counts = [0_u32; 256];
    for &byte in bytes {
        counts[usize::from(byte)] += 1;
    }
    let len = bytes.len() as u64;
    if len == 0 {
        return 0;
    }
    // H = log2(n) - sum(c log2 c) / n
    let sum: u64 = counts
        .iter()
        .map(|&count| match TABLE.get(count as usize) {
            Some(&value) => value,
            None => u64::from(count) * log2(u64::from(count)),
        })
        .sum();
    let over = u128::from((len * log2(len)).saturating_sub(sum));
    // At most 8 bits, whatever the rounding of logarithms does.
    (over * 1000 / (u128::from(len) << FRACTION)).min(8000) as u32
}

/// Bits set per byte on average, in thousandths, rounded down, 0 to 8000; 0 for no bytes.
pub fn popcount_millibits(bytes: &[u8]) -> u32 {
    if bytes.is_empty() {
        return 0;
    }
    // Eight bytes at a time.
    let (words, rest) = bytes.as_chunks::<8>();
    let words = words.iter().map(|word| u64::from_ne_bytes(*word).count_ones());
    let rest = rest.iter().map(|byte| byte.count_ones());
    let ones: u64 = words.chain(rest).map(u64::from).sum();
    (ones * 1000 / bytes.len() as u64) as u32
}

/// Bits after the point of a logarithm.
const FRACTION: u32 = 24;

/// The logarithm to base 2 of `x >= 1`, with [`FRACTION`] bits after the point, rounded down: one bit for each squaring.
const fn log2(x: u64) -> u64 {
    let whole = x.ilog2();
    // 1 <= mantissa < 2, with 31 bits after the point.
    let mut mantissa = if whole >= 31 {
        x >> (whole - 31)
    } else {
        x << (31 - whole)
    };
    let mut result = (whole as u64) << FRACTION;
    let mut bit = FRACTION;
    while bit > 0 {
        bit -= 1;
        mantissa = (mantissa * mantissa) >> 31;
        if mantissa >> 32 != 0 {
            mantissa >>= 1;
            result |= 1 << bit;
        }
    }
    result
}

/// `c * log2(c)`; most counts are small.
static TABLE: [u64; 257] = {
    let mut table = [0; 257];
    let mut count = 1;
    while count < table.len() {
        table[count] = count as u64 * log2(count as u64);
        count += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entropy_agrees_with_floating_point_to_two_thousandths() {
        let mut state = 1_u32;
        for len in [1_usize, 2, 3, 7, 100, 256, 1000, 1460, 70_000] {
            for mask in [0x01, 0x0f, 0x7f, 0xff] {
                let bytes: Vec<u8> = (0..len)
                    .map(|_| {
                        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                        (state >> 24) as u8 & mask
                    })
                    .collect();
                let exact: f64 = (0..=255_u8)
                    .map(|value| bytes.iter().filter(|byte| **byte == value).count())
                    .filter(|count| *count > 0)
                    .map(|count| {
                        let share = count as f64 / len as f64;
                        -share * share.log2()
                    })
                    .sum();
                let got = f64::from(millibits(&bytes)) / 1000.0;
                assert!((exact - got).abs() < 0.002, "{len} {mask}: {got} is not {exact}");
            }
        }
    }

    #[test]
    fn entropy_is_exact_at_its_ends() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(millibits(&all), 8000);
        assert_eq!(millibits(&[7; 1000]), 0);
        assert_eq!(millibits(b"abababab"), 1000);
        assert_eq!(millibits(b""), 0);
        assert_eq!(popcount_millibits(&all), 4000);
        assert_eq!(popcount_millibits(b""), 0);
    }
}
