//! Outputs that do not fit, which must stop at the assertion that is meant for them.

mod message;

use half::f16;
use message::message;
use noisyquant_kernels::output::{Coarse, CodeForm, Coding, Output};
use noisyquant_kernels::view::MatMut;

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
