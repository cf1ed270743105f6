//! Whether a JPEG is all there: the decoder makes grey of what is missing.

const END: u8 = 0xd9;

/// An error unless the file has its end marker, without which Pillow refuses it, too.
pub(super) fn check_end(bytes: &[u8]) -> Result<(), String> {
    // Behind the marker that the file begins with.
    let mut at = 2;
    while let Some(next) = bytes.get(at..).and_then(marker) {
        at += next + 1;
        match bytes[at - 1] {
            END => return Ok(()),
            // A byte of the data that looks like a marker, restarts, and markers without content.
            0 | 0x01 | 0xd0..=0xd8 => {}
            // Others say how long they are; a picture may be in there, with an end of its own.
            _ => match bytes.get(at..at + 2) {
                Some(length) => at += usize::from(u16::from_be_bytes([length[0], length[1]])),
                None => break,
            },
        }
    }
    let length = bytes.len();
    Err(format!("a truncated JPEG: no end marker in {length} bytes"))
}

/// Where the second byte of the first marker is.
fn marker(bytes: &[u8]) -> Option<usize> {
    let first = bytes.iter().position(|byte| *byte == 0xff)?;
    // Any number of 0xff may stand before a marker.
    let second = bytes[first..].iter().position(|byte| *byte != 0xff)?;
    Some(first + second)
}

#[cfg(test)]
mod tests {
    use super::check_end;

    /// Two segments, of which the first has an end within, and a scan with what looks like markers.
    const WHOLE: [u8; 24] = [
        0xff, 0xd8, 0xff, 0xe1, 0, 6, 0xff, 0xd8, 0xff, 0xd9, 0xff, 0xff, 0xda, 0, 2, 7, 0xff, 0,
        8, 0xff, 0xd0, 9, 0xff, 0xd9,
    ];

    #[test]
    fn only_a_whole_file_has_its_end() {
        assert_eq!(check_end(&WHOLE), Ok(()));
        let trailing = [&WHOLE[..], &[1, 2, 3]].concat();
        assert_eq!(check_end(&trailing), Ok(()));
        for length in 0..WHOLE.len() {
            let error = check_end(&WHOLE[..length]).unwrap_err();
            assert!(error.contains("truncated"), "{error}");
        }
    }
}
