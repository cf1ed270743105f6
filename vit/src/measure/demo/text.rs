//! The report as tables for people.

use std::fmt;

use super::{
    accuracy::{AccuracyRow, Score},
    latency::LatencyRow,
    overhead::OverheadRow,
    results::Report,
};
use crate::measure::table::Table;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seeds = self.accuracy.iter().map(|row| row.noisy.len()).max();
        writeln!(f, "A vision transformer: {}.\n", self.model)?;
        writeln!(
            f,
            "Accuracy on {} test images. Every linear layer is quantized, calibrated on {} training images,\n\
             {}. `error` is the mean distance of a logit from f32's;\n\
             `change` is what the noise does to it, as the mean (least … most) of {} seeds.\n",
            self.test_images,
            self.calibration_images,
            self.ranges,
            seeds.unwrap_or(0),
        )?;
        writeln!(f, "{}", self.accuracy_table())?;
        writeln!(
            f,
            "Latency of one image on one thread: medians in microseconds, and the speed-up over f32.\n\
             Attention, LayerNorm and GELU are f32 everywhere; all f32 products run on {}.\n",
            self.latency.float_kernel
        )?;
        writeln!(f, "{}", self.latency_table())?;
        writeln!(
            f,
            "Overhead of the noise: time with noise / time without, medians of paired runs. `control` is \
             the\n\
             plain program against a copy of itself: what this measurement cannot tell apart.\n"
        )?;
        writeln!(f, "{}", self.overhead_table())?;
        writeln!(
            f,
            "Everything was computed in this run, in {:.0} s.",
            self.seconds
        )
    }
}

impl Report {
    fn accuracy_table(&self) -> Table {
        let mut table = Table::new(&[
            ["", "", "plain", "", "", "NoisyQuant", "", "", ""],
            [
                "bits",
                "quantizer",
                "top-1",
                "as f32",
                "error",
                "top-1",
                "as f32",
                "error",
                "change",
            ],
        ]);
        let mut last = "";
        for row in &self.accuracy {
            let AccuracyRow {
                bits,
                quantizer,
                plain,
                noisy,
            } = row;
            let bits_cell = if bits == last { "" } else { bits };
            let mut cells = vec![bits_cell.into(), quantizer.clone().unwrap_or_default()];
            cells.extend(score_cells(plain));
            if let Some(mean) = mean(noisy) {
                cells.extend(score_cells(&mean));
                cells.push(change(plain, noisy));
            }
            table.push(cells);
            last = bits;
        }
        table
    }

    fn latency_table(&self) -> Table {
        let head = [
            "",
            "W8A8",
            "",
            "with noise",
            "",
            "W6A6",
            "",
            "with noise",
            "",
        ];
        let mut table = Table::new(&[head]);
        let float = self.latency.float_us;
        table.push(vec!["f32".into(), format!("{float:.0}"), "1.00×".into()]);
        for row in &self.latency.rows {
            let LatencyRow {
                isa,
                w8a8_us,
                w8a8_noise_us,
                w6a6_us,
                w6a6_noise_us,
                ..
            } = row;
            let mut cells = vec![isa.clone()];
            for time in [w8a8_us, w8a8_noise_us, w6a6_us, w6a6_noise_us] {
                cells.extend([format!("{time:.0}"), format!("{:.2}×", float / time)]);
            }
            table.push(cells);
        }
        table
    }

    fn overhead_table(&self) -> Table {
        let mut table = Table::new(&[["", "", "W8A8", "control", "W6A6", "control", "rounds"]]);
        let mut last = "";
        for row in &self.overhead {
            let OverheadRow {
                what,
                isa,
                w8a8,
                w8a8_control,
                w6a6,
                w6a6_control,
                rounds,
            } = row;
            let what_cell = if what == last { "" } else { what };
            let mut cells = vec![what_cell.into(), isa.clone()];
            cells.extend(
                [w8a8, w8a8_control, w6a6, w6a6_control].map(|ratio| format!("{ratio:.3}")),
            );
            cells.push(rounds.to_string());
            table.push(cells);
            last = what;
        }
        table
    }
}

fn score_cells(score: &Score) -> [String; 3] {
    [
        format!("{:.1} %", score.top1_percent),
        format!("{:.1} %", score.agreement_percent),
        format!("{:.4}", score.mean_logit_error),
    ]
}

/// Each figure's mean; none of no scores.
fn mean(scores: &[Score]) -> Option<Score> {
    let count = scores.len() as f64;
    let mean_of = |figure: fn(&Score) -> f64| scores.iter().map(figure).sum::<f64>() / count;
    (!scores.is_empty()).then(|| Score {
        top1_percent: mean_of(|score| score.top1_percent),
        agreement_percent: mean_of(|score| score.agreement_percent),
        mean_logit_error: mean_of(|score| score.mean_logit_error),
        relative_error_percent: mean_of(|score| score.relative_error_percent),
    })
}

/// Mean, least and most change of the logit error against `plain`.
fn change(plain: &Score, noisy: &[Score]) -> String {
    let changes = noisy
        .iter()
        .map(|score| 100.0 * (score.mean_logit_error / plain.mean_logit_error - 1.0));
    let changes: Vec<f64> = changes.collect();
    let mean = changes.iter().sum::<f64>() / changes.len() as f64;
    let least = changes.iter().copied().fold(f64::INFINITY, f64::min);
    let most = changes.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    match changes.len() {
        1 => format!("{mean:+.1} %"),
        _ => format!("{mean:+.1} % ({least:+.1} … {most:+.1})"),
    }
}
