use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;

#[test]
fn strides_are_odd_multiples_of_a_line() {
    for k in 0..1000 {
        let stride = codes_stride(k);
        assert!(stride >= padded_k(k) && stride <= padded_k(k) + 64);
        assert_eq!(stride / 64 % 2, 1, "k = {k}");
    }
}

#[test]
fn lengths_that_overflow_are_none() {
    let layout = Tile::new(1, 32, 4).panel();
    for (n, k) in [(1, usize::MAX), (1, usize::MAX / 2), (usize::MAX, 64)] {
        assert_eq!(layout.packed_len(n, k), None, "{n} {k}");
    }
}

#[test]
fn sizes_that_overflow_are_refused() {
    let layout = Tile::new(1, 32, 4).panel();
    let refused = |size: &dyn Fn() -> usize| catch_unwind(AssertUnwindSafe(size)).is_err();
    for k in [usize::MAX, usize::MAX - 64, usize::MAX - 127] {
        assert!(refused(&|| padded_k(k)), "{k}");
        assert!(refused(&|| codes_stride(k)), "{k}");
        assert!(refused(&|| layout.panel_bytes(k)), "{k}");
    }
    assert!(refused(&|| layout.panel_bytes(usize::MAX / 16)));
    let most = usize::MAX - 2 * K_ALIGN;
    assert!(codes_stride(most) >= padded_k(most) && padded_k(most) >= most);
}

#[test]
fn packing_places_every_weight_once_and_pads_with_zeros() {
    for (nr, kr) in [(32, 4), (16, 2), (5, 2), (8, 8), (12, 16), (8, 32), (7, 1)] {
        let layout = Tile::new(1, nr, kr).panel();
        for (n, k) in [
            (1, 1),
            (33, 65),
            (16, 64),
            (7, 130),
            (32, 128),
            (0, 3),
            (3, 0),
        ] {
            let code = |channel: usize, input: usize| ((channel * k + input) % 127 + 1) as i8;
            let mut rows = vec![-1; n * (k + 3)];
            let mut columns = vec![-1; k * (n + 3)];
            for (channel, input) in (0..n).flat_map(|n| (0..k).map(move |k| (n, k))) {
                rows[channel * (k + 3) + input] = code(channel, input);
                columns[input * (n + 3) + channel] = code(channel, input);
            }
            let mut packed = vec![-1; layout.packed_len(n, k).unwrap()];
            let mut transposed = packed.clone();
            layout.pack(&rows, k + 3, n, k, &mut packed);
            layout.pack_transposed(&columns, n + 3, n, k, &mut transposed);
            assert_eq!(packed, transposed, "{layout:?} {n} {k}");
            for (channel, input) in (0..n).flat_map(|n| (0..k).map(move |k| (n, k))) {
                let at = layout.index(channel, input, k);
                assert_eq!(packed[at], code(channel, input));
            }
            let nonzero = packed.iter().filter(|w| **w != 0).count();
            assert_eq!(nonzero, n * k);
        }
    }
}

#[test]
fn dense_panels_hold_every_weight_and_pad_with_zeros() {
    for (nr, kr, form) in [(32, 4, Form::Six), (32, 4, Form::Four), (6, 2, Form::Six)] {
        let layout = PanelLayout { nr, kr, form };
        let levels = 1 << form.bits();
        for (n, k) in [(1, 1), (33, 65), (32, 64), (7, 130), (0, 3), (3, 0)] {
            let code = |n: usize, k: usize| ((n * 37 + k * 11) % levels) as i8 - (levels / 2) as i8;
            let each =
                |(n, k): (usize, usize)| (0..n).flat_map(move |n| (0..k).map(move |k| (n, k)));
            let rows: Vec<i8> = each((n, k)).map(|(n, k)| code(n, k)).collect();
            let columns: Vec<i8> = each((k, n)).map(|(k, n)| code(n, k)).collect();
            let bytes = layout.panels(n) * nr * padded_k(k) / 8 * form.bits();
            let mut packed = vec![-1; layout.packed_len(n, k).unwrap()];
            assert_eq!(packed.len(), bytes);
            let mut transposed = packed.clone();
            layout.pack(&rows, k, n, k, &mut packed);
            layout.pack_transposed(&columns, n, n, k, &mut transposed);
            assert_eq!(packed, transposed, "{layout:?} {n} {k}");
            for (channel, input) in each((layout.panels(n) * nr, padded_k(k))) {
                let there = channel < n && input < k;
                let expected = if there { code(channel, input) } else { 0 };
                let got = layout.weight(&packed, channel, input, k);
                assert_eq!(got, expected, "{layout:?} {n} {k}: {channel} {input}");
            }
        }
    }
}

#[test]
fn weights_that_a_form_does_not_hold_are_refused() {
    let panel = Tile::new(1, 32, 4).panel();
    for (form, weight) in [
        (Form::Six, 32),
        (Form::Six, -33),
        (Form::Four, 8),
        (Form::Four, -9),
    ] {
        let layout = PanelLayout { form, ..panel };
        let mut packed = vec![0; layout.panel_bytes(1)];
        let pack = AssertUnwindSafe(|| layout.pack(&[weight], 1, 1, 1, &mut packed));
        assert!(catch_unwind(pack).is_err(), "{form:?} {weight}");
    }
    let odd = PanelLayout {
        nr: 5,
        kr: 4,
        form: Form::Six,
    };
    let mut packed = vec![0; odd.panel_bytes(1)];
    assert!(catch_unwind(AssertUnwindSafe(|| odd.pack(&[1], 1, 1, 1, &mut packed))).is_err());
}
