//! What NoisyQuant is, for readers who have not read the paper.

use maud::{Markup, html};

/// The idea in a few paragraphs and a drawing.
pub(super) fn idea() -> Markup {
    html! {
        h2 { "What was done to this model" }
        p {
            "Nearly all the work of a vision transformer is multiplying numbers in its linear layers. "
            b { "Quantization" } " stores those numbers as small integers: every number is rounded to the \
            nearest of a few evenly spaced " b { "levels" } " (256 levels for 8 bits, 64 for 6 bits). \
            Integers are multiplied faster and take a quarter of the memory, but rounding makes errors."
        }
        p {
            "The inputs of a transformer's layers make this hard: most numbers are tiny, and a few are \
            enormous. The levels have to reach the enormous ones, so they lie far apart, and most of the \
            tiny numbers land on the same one or two levels. What distinguished them is lost, and because \
            they are all rounded the same way, their errors add up instead of cancelling."
        }
        (drawing())
        p {
            b { "NoisyQuant" } " (Liu et al., CVPR 2023) adds a fixed bias to the numbers before they are \
            rounded: one number for each input channel, drawn at random once and then kept. Numbers that \
            were all rounded the same way now fall on different sides of the boundary between two levels, \
            and their errors cancel on average. What the bias adds to the layer's output is known exactly, \
            so it is subtracted there again, inside the constant that the layer adds anyway: nothing is left \
            of the bias but the better rounding, and it takes next to no time."
        }
        p {
            "The same place in the computation takes any bias per channel, not just a random one. This \
            program also tries a " b { "shift" } " that moves the middle of each channel to zero and a "
            b { "scale" } " that stretches quiet channels (their weights are divided by it in return), and \
            may combine them. What was chosen for each layer stands below."
        }
    }
}

/// What each of three channels holds, in steps.
const VALUE: f64 = 0.35;
/// Biases that U(−0.4, 0.4) may draw.
const BIASES: [f64; 3] = [-0.32, 0.05, 0.30];

/// Three equal numbers, rounded without and with a bias per channel.
fn drawing() -> Markup {
    let x = |steps: f64| 70.0 + 230.0 * (steps + 0.3);
    let rows = [
        ("without bias", [0.0; 3], 22.0),
        ("with bias", BIASES, 118.0),
    ];
    html! {
        figure.card.scroll {
            svg viewBox="0 0 720 200" role="img" aria-label="rounding without and with a bias" {
                title { "Three channels with the value 0.35, rounded without and with a bias" }
                @for (name, biases, top) in rows {
                    text.mark x="8" y=(top + 8.0) { (name) }
                    line.axis x1=(x(-0.25)) x2=(x(1.05)) y1=(top + 46.0) y2=(top + 46.0) {}
                    @for level in [0.0, 1.0] {
                        line.level x1=(x(level)) x2=(x(level)) y1=(top + 18.0) y2=(top + 54.0) {}
                        text.tick x=(x(level)) y=(top + 68.0) text-anchor="middle" { "level " (level) }
                    }
                    line.grid x1=(x(0.5)) x2=(x(0.5)) y1=(top + 22.0) y2=(top + 50.0)
                        stroke-dasharray="4 3" {}
                    text.tick x=(x(0.5)) y=(top + 68.0) text-anchor="middle" { "boundary" }
                    @for (at, bias) in biases.iter().enumerate() {
                        // Equal values would hide each other: the channels lie one above the other.
                        circle.alone cx=(x(VALUE + bias)) cy=(top + 24.0 + 9.0 * at as f64) r="4" {}
                    }
                    @let mean = mean_read_back(&biases);
                    text.mark x=(x(1.12)) y=(top + 30.0) { "read back on average: " (format!("{mean:.2}")) }
                    text.tick x=(x(1.12)) y=(top + 47.0) {
                        "true value 0.35, error " (format!("{:+.2}", mean - VALUE).replace('-', "−"))
                    }
                }
            }
            figcaption {
                "Three channels hold the same value, 0.35 of a step. Without a bias all are rounded down to \
                level 0, and all three errors point the same way. With a different bias for each channel one \
                of them crosses the boundary and is rounded up; after the biases are subtracted again, the \
                average is nearly right. (An illustration with made-up numbers; everything below is \
                measured.)"
            }
        }
    }
}

/// What three such values are on average after rounding with these biases.
fn mean_read_back(biases: &[f64; 3]) -> f64 {
    let read_back = biases.iter().map(|bias| (VALUE + bias).round() - bias);
    read_back.sum::<f64>() / 3.0
}
