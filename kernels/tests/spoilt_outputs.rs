//! Outputs that do not fit, which must stop at the assertion that is meant for them.

mod message;

use half::f16;
use message::message;
use noisyquant_kernels::codes::CodesMut;
use noisyquant_kernels::output::{Coarse, CodeForm, Coding, Output};
use noisyquant_kernels::row::Prologue;
use noisyquant_kernels::table;
use noisyquant_kernels::view::{Elem, MatMut, MatRef};

#[test]
fn outputs_that_do_not_fit_are_refused() {
    let some = [0.5; 5];
    let said = |inv: usize, t: usize, max: u8, coarse: Option<Coarse<'_>>| {
        let (inv, t, form) = (&some[..inv], &some[..t], CodeForm { max, offset: 0 });
        message(|| {
            let coding = Coding {
                inv,
                t,
                form,
                coarse,
            };
            Output::codes(&mut [0; 8], 2, 4, coding).expect("room for two rows");
        })
    };
    assert_eq!(said(4, 4, 255, None), "");
    assert!(said(4, 3, 255, None).contains("multipliers and offsets"));
    assert!(said(5, 5, 255, None).contains("room for two rows"));
    let twin = |fine: u8, inv: usize, t: usize, (max, shift): (u8, u32)| {
        let (inv, t) = (&some[..inv], &some[..t]);
        said(4, 4, fine, Some(Coarse { inv, t, max, shift }))
    };
    assert_eq!(twin(31, 4, 4, (7, 5)), "");
    assert_eq!(twin(255, 4, 4, (0, 7)), "");
    for (inv, t) in [(3, 4), (4, 3), (5, 5)] {
        let said = twin(31, inv, t, (7, 5));
        assert!(said.contains("coarse multipliers and offsets"), "{said}");
    }
    for (fine, coarse) in [
        (32, (7, 5)),
        (31, (8, 5)),
        (31, (7, 6)),
        (0, (0, 8)),
        (0, (1, 32)),
    ] {
        let said = twin(fine, 4, 4, coarse);
        assert_eq!(said, "fine and coarse codes in a byte");
    }
    let narrow = message(|| {
        let mut numbers = [f16::ZERO; 4];
        let y = MatMut::new(&mut numbers, 2, 2, 2).expect("whole rows");
        _ = Output::add(y);
    });
    assert!(narrow.contains("what outputs are added to"), "{narrow}");
}

#[test]
fn a_part_of_codes_has_the_shape_of_its_numbers() {
    #[repr(align(64))]
    struct Lines([u8; 3 * 192]);

    let (numbers, constants) = ([0f32; 140], [0f32; 128]);
    let x = MatRef::new(&numbers, 2, 70, 70).expect("whole rows");
    let form = CodeForm {
        max: 255,
        offset: 0,
    };
    let rows = table::prologues().filter_map(Prologue::ready);
    for row in rows.filter(|row| row.source == Elem::F32) {
        let said = |rows: usize, lines: usize| {
            let mut codes = Lines([0; 3 * 192]);
            let mut codes = CodesMut::new(&mut codes.0, 3, 3, 192);
            let part = codes.block(3 - rows, rows, 3 - lines, lines);
            message(|| row.quantize_into(x, &constants, &constants, form, part))
        };
        assert_eq!(said(2, 2), "", "{}", row.name);
        for (rows, lines) in [(1, 2), (3, 2), (2, 1), (2, 3), (0, 0)] {
            let said = said(rows, lines);
            assert!(said.contains("rows and lines"), "{}: {said}", row.name);
        }
    }
}
