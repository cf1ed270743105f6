//! Weight codes of `b` bits in `b` bits each, as files hold them.
//!
//! A row is a string of bits, of which bit `p` is bit `p mod 8` of byte `p / 8`. Code `i` is the bits from
//! `i · b` on, in two's complement, the least significant first. Eight codes are `b` whole bytes, which are
//! one little-endian number. Of 6 and of 4 bits, each bit belongs to this code:
//!
//! ```text
//!   bit       7 6 5 4 3 2 1 0         bit       7 6 5 4 3 2 1 0
//!   byte 0    1 1 0 0 0 0 0 0         byte 0    1 1 1 1 0 0 0 0
//!   byte 1    2 2 2 2 1 1 1 1         byte 1    3 3 3 3 2 2 2 2
//!   byte 2    3 3 3 3 3 3 2 2
//! ```
//!
//! What is left of the last byte of a row is zero. So each row begins with a byte and can be read without the
//! others. That takes less than a byte of each row, and nothing where codes are a multiple of eight.

/// Codes that fill whole bytes, whatever their bits.
const GROUP: usize = 8;

/// Bytes of a row of `count` codes, of which there are at most [`MAX_K`](noisyquant_kernels::spec::MAX_K).
pub(super) fn row_bytes(count: usize, bits: u32) -> usize {
    (count * bits as usize).div_ceil(8)
}

/// Writes a row of codes, each within its `bits`, of which there are 2 to 7.
///
/// # Panics
///
/// If `row` is not [`row_bytes`] long.
pub(super) fn pack(codes: &[i8], bits: u32, row: &mut [u8]) {
    let pack = match bits {
        2 => pack_row::<2>,
        3 => pack_row::<3>,
        4 => pack_row::<4>,
        5 => pack_row::<5>,
        6 => pack_row::<6>,
        7 => pack_row::<7>,
        _ => unreachable!("codes of fewer bits than a byte"),
    };
    pack(codes, row);
}

/// Reads a row of codes, and returns whether the rest of its last byte is zero, as it has to be.
///
/// # Panics
///
/// As [`pack`].
pub(super) fn unpack(row: &[u8], bits: u32, codes: &mut [i8]) -> bool {
    let unpack = match bits {
        2 => unpack_row::<2>,
        3 => unpack_row::<3>,
        4 => unpack_row::<4>,
        5 => unpack_row::<5>,
        6 => unpack_row::<6>,
        7 => unpack_row::<7>,
        _ => unreachable!("codes of fewer bits than a byte"),
    };
    unpack(row, codes)
}

fn pack_row<const BITS: usize>(codes: &[i8], row: &mut [u8]) {
    let (groups, rest) = codes.as_chunks::<GROUP>();
    let (whole, last) = row.split_at_mut(groups.len() * BITS);
    for (codes, bytes) in groups.iter().zip(whole.as_chunks_mut::<BITS>().0) {
        bytes.copy_from_slice(&close::<BITS>(*codes)[..BITS]);
    }
    let mut codes = [0; GROUP];
    codes[..rest.len()].copy_from_slice(rest);
    let bytes = (rest.len() * BITS).div_ceil(8);
    last.copy_from_slice(&close::<BITS>(codes)[..bytes]);
}

fn unpack_row<const BITS: usize>(row: &[u8], codes: &mut [i8]) -> bool {
    let (groups, rest) = codes.as_chunks_mut::<GROUP>();
    let (whole, last) = row.split_at(groups.len() * BITS);
    for (codes, bytes) in groups.iter_mut().zip(whole.as_chunks::<BITS>().0) {
        *codes = part::<BITS>(number(bytes));
    }
    assert_eq!(last.len(), (rest.len() * BITS).div_ceil(8), "a row");
    let number = number(last);
    rest.copy_from_slice(&part::<BITS>(number)[..rest.len()]);
    number >> (rest.len() * BITS) == 0
}

/// Up to eight bytes as a little-endian number.
fn number(bytes: &[u8]) -> u64 {
    let mut whole = [0; GROUP];
    whole[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(whole)
}

/// Eight codes that lie side by side, each in a byte of its own. Fields of four codes are moved apart, then
/// those of two and those of one, all of a number at once.
fn part<const BITS: usize>(number: u64) -> [i8; GROUP] {
    let mut number = number;
    for codes in [4, 2, 1] {
        let low = low_fields::<BITS>(codes);
        number = number & low | number << (codes * (8 - BITS)) & low << (codes * 8);
    }
    // The sign goes through the bits above a code: (code ^ sign) − sign, without a borrow between bytes.
    let sign = each_byte(1 << (BITS - 1));
    let apart = (number ^ sign) + each_byte(0x80 - (1 << (BITS - 1)));
    (apart ^ each_byte(0x80)).to_le_bytes().map(u8::cast_signed)
}

/// The opposite of [`part`]; only the low bits of the number are not zero.
fn close<const BITS: usize>(codes: [i8; GROUP]) -> [u8; GROUP] {
    let bytes = codes.map(i8::cast_unsigned);
    let mut number = u64::from_le_bytes(bytes) & each_byte((1 << BITS) - 1);
    for codes in [1, 2, 4] {
        let low = low_fields::<BITS>(codes);
        number = number & low | number >> (codes * (8 - BITS)) & low << (codes * BITS);
    }
    number.to_le_bytes()
}

/// The bits of `codes` codes side by side at the low end of each `2 · codes` bytes.
const fn low_fields<const BITS: usize>(codes: usize) -> u64 {
    let field = (1 << (codes * BITS)) - 1;
    match codes {
        1 => field * (u64::MAX / 0xffff),
        2 => field * (u64::MAX / 0xffff_ffff),
        _ => field,
    }
}

/// The same in each byte.
const fn each_byte(byte: u8) -> u64 {
    u64::from_le_bytes([byte; GROUP])
}

#[cfg(test)]
mod tests {
    use std::vec;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    fn packed(codes: &[i8], bits: u32) -> Vec<u8> {
        let mut row = vec![0xff; row_bytes(codes.len(), bits)];
        pack(codes, bits, &mut row);
        row
    }

    fn unpacked(row: &[u8], bits: u32, count: usize) -> Option<Vec<i8>> {
        let mut codes = vec![99; count];
        unpack(row, bits, &mut codes).then_some(codes)
    }

    /// Written out by hand.
    #[test]
    #[allow(clippy::unusual_byte_groupings, reason = "grouped as codes are")]
    fn known_codes_are_known_bytes() {
        let rows: [(u32, &[i8], &[u8]); 8] = [
            (2, &[1, -1, 0, -2, 1], &[0b10_00_11_01, 0b01]),
            (3, &[3, -4, -1], &[0b11_100_011, 0b1]),
            (4, &[1, -1, 7, -8], &[0xf1, 0x87]),
            (4, &[-3], &[0x0d]),
            (5, &[1, -16, 15], &[0b000_00001, 0b0_01111_10]),
            (6, &[1, -1, 31, -32], &[0xc1, 0xff, 0x81]),
            (6, &[-2, 5, -31], &[0b01_111110, 0b0001_0001, 0b10]),
            (7, &[-64, 1], &[0b1_1000000, 0b0]),
        ];
        for (bits, codes, bytes) in rows {
            assert_eq!(packed(codes, bits), bytes, "{codes:?} of {bits} bits");
            assert_eq!(unpacked(bytes, bits, codes.len()).unwrap(), codes);
        }
        assert!(packed(&[], 6).is_empty() && unpacked(&[], 6, 0).unwrap().is_empty());
    }

    #[test]
    fn bits_after_the_last_code_are_refused() {
        for bits in 2..8 {
            for count in 1..20 {
                let row = packed(&vec![-1; count], bits);
                assert!(unpacked(&row, bits, count).is_some());
                for bit in count * bits as usize..row.len() * 8 {
                    let mut other = row.clone();
                    other[bit / 8] |= 1 << (bit % 8);
                    assert_eq!(unpacked(&other, bits, count), None, "{bits} {count} {bit}");
                }
            }
        }
    }

    /// Bit after bit, as the page on top says it.
    fn slowly(row: &[u8], bits: usize, count: usize) -> Vec<i8> {
        let bit = |p: usize| i32::from(row[p / 8] >> (p % 8) & 1);
        let code = |i: usize| {
            let sum: i32 = (0..bits).map(|j| bit(i * bits + j) << j).sum();
            sum - (bit(i * bits + bits - 1) << bits)
        };
        (0..count).map(|i| code(i) as i8).collect()
    }

    proptest! {
        #[test]
        fn rows_come_back(bits in 2u32..8, words in prop::collection::vec(any::<i8>(), 0..70)) {
            let codes: Vec<i8> = words.iter().map(|word| word >> (8 - bits)).collect();
            let row = packed(&codes, bits);
            prop_assert_eq!(&slowly(&row, bits as usize, codes.len()), &codes);
            prop_assert_eq!(unpacked(&row, bits, codes.len()), Some(codes));
        }
    }
}
