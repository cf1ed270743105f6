//! Files of other formats than the one that was expected, told by how they begin.

/// What a file that begins so is, in a few words; none if that is not known.
pub(crate) fn recognise(bytes: &[u8]) -> Option<&'static str> {
    const BEGINNINGS: [(&[u8], &str); 13] = [
        (
            b"version https://git-lfs",
            "a Git LFS pointer in place of the file (`git lfs pull` fetches it)",
        ),
        (
            b"# xet version",
            "a Xet pointer in place of the file (`git xet` fetches it)",
        ),
        (b"GGUF", "a GGUF file"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (b"\x93NUMPY", "a file of a NumPy array"),
        (
            b"PK\x03\x04",
            "a ZIP archive, such as PyTorch's .pth and .bin",
        ),
        (b"\x1f\x8b", "a gzip archive"),
        (b"\x28\xb5\x2f\xfd", "a Zstandard archive"),
        (b"\x80\x02", "a pickle, such as PyTorch's .pth and .bin"),
        (b"\x80\x03", "a pickle"),
        (b"\x80\x04", "a pickle"),
        (b"\x80\x05", "a pickle"),
        (b"%PDF-", "a PDF"),
    ];
    let known = BEGINNINGS
        .iter()
        .find(|(beginning, _)| bytes.starts_with(beginning));
    if let Some((_, what)) = known {
        return Some(what);
    }
    if bytes.get(4..8) == Some(b"TFL3") {
        return Some("a TensorFlow Lite model");
    }
    let text = bytes.trim_ascii_start();
    let page = [&b"<!doctype html"[..], b"<html", b"<head", b"<?xml"].into_iter();
    let mut page = page.filter_map(|tag| Some((tag, text.get(..tag.len())?)));
    if page.any(|(tag, start)| start.eq_ignore_ascii_case(tag)) {
        return Some("an HTML page or other markup, perhaps an error message of a download");
    }
    is_onnx(bytes).then_some("an ONNX model")
}

/// Whether these are the first fields of ONNX's protocol buffer: the version of the representation and then
/// the name of a producer, the operator sets or the graph.
fn is_onnx(bytes: &[u8]) -> bool {
    // Field 1, a small number; then fields 2, 7 or 8, which have a length.
    matches!(bytes, [0x08, 1..=32, 0x12 | 0x3a | 0x42, ..])
}

#[cfg(test)]
mod tests {
    use super::recognise;

    #[test]
    fn formats_are_told_by_their_beginning() {
        for (bytes, expected) in [
            (
                &b"version https://git-lfs.github.com/spec/v1\n"[..],
                "Git LFS",
            ),
            (b"\n <!DOCTYPE html><html>", "HTML"),
            (b"PK\x03\x04....", "ZIP"),
            (b"\x80\x02}q\x00", "pickle"),
            (b"\x08\x07\x12\x07pytorch", "ONNX"),
            (b"GGUF\x03\0\0\0", "GGUF"),
            (b"\x1c\0\0\0TFL3", "TensorFlow Lite"),
        ] {
            let got = recognise(bytes);
            assert!(
                got.is_some_and(|got| got.contains(expected)),
                "{expected}: {got:?}"
            );
        }
        let safetensors = b"\x10\x27\0\0\0\0\0\0{\"__metadata__\"";
        for bytes in [&b""[..], b"\x08", b"{", safetensors] {
            assert_eq!(recognise(bytes), None, "{bytes:?}");
        }
    }
}
