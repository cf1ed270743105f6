//! The page itself.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{
    chart,
    data::{Choice, Panel, ReportData, Tail},
    explain,
};
use crate::measure::{
    bench::{FLOAT_BITS, Timing},
    compare::LayerError,
};

/// The whole page as HTML, with nothing outside it.
pub fn render(data: &ReportData) -> String {
    let title = format!("{} next to {}", data.quantized, data.checkpoint);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                link rel="icon" href="data:,";
                title { (title) }
                style { (PreEscaped(include_str!("style.css"))) }
            }
            body {
                h1 { (title) }
                p.soft { (data.architecture) }
                (facts(data))
                (explain::idea())
                (tails(data))
                (errors(data))
                (latency(data))
                (widths(&data.widths))
                (choices(&data.choices, &data.comparison.layers))
                footer {
                    "Made by noisyquant " (data.version) ". Everything but the drawing was computed on "
                    (data.comparison.images) " images, latency measured on this machine in the same run; \
                    medians, which vary by some per cent from run to run."
                }
            }
        }
    };
    page.into_string()
}

/// The figures that matter most.
fn facts(data: &ReportData) -> Markup {
    let comparison = &data.comparison;
    let (small, large) = (data.quantized_bytes as f64, data.float_bytes as f64);
    html! {
        div.facts {
            (fact(&format!("{:.4}", comparison.cosine_mean), html! {
                "mean cosine similarity of the features to the float model's, over " (comparison.images)
                " images; 1 is the same direction"
            }))
            (fact(&format!("{:.4}", comparison.cosine_least), html! {
                "the least of them, of " (comparison.least_image)
            }))
            @if let Some(agreement) = comparison.top1_agreement {
                (fact(&format!("{:.1} %", 100.0 * agreement), html! {
                    "of the images get the same answer from both models"
                }))
            }
            (fact(&format!("{:.1} MB", small / 1e6), html! {
                "in the quantized file instead of " (format!("{:.1} MB", large / 1e6)) " of f32 numbers"
            }))
            @if let Some(gain) = speed_up(&data.latency) {
                (fact(&format!("{:.1} ×", gain.0), html! {
                    "as fast as f32, one image on one thread with " (gain.1) " (see Latency)"
                }))
            }
        }
    }
}

fn fact(figure: &str, words: Markup) -> Markup {
    html! { div.fact { b { (figure) } span { (words) } } }
}

/// Of the fastest instruction set, batch 1 and one thread, and that set's name.
fn speed_up(latency: &[Timing]) -> Option<(f64, &str)> {
    let single = || {
        latency
            .iter()
            .filter(|row| row.batch == 1 && row.threads == 1)
    };
    let float = single().find(|row| row.bits == FLOAT_BITS)?;
    let others = single().filter(|row| row.bits != FLOAT_BITS);
    let best = others.min_by(|a, b| a.med_ms.total_cmp(&b.med_ms))?;
    Some((float.med_ms / best.med_ms, &best.isa))
}

fn tails(data: &ReportData) -> Markup {
    html! {
        h2 { "Numbers before and after the bias" }
        p {
            "The inputs of the layers with the heaviest tails, one of each kind. " b { "Plain" } ": the \
            numbers as they are, and the levels of a plain quantizer that reaches to the largest of \
            them on either side. "
            b { "This model" } ": the numbers that it rounds, after shift, scale and noise, and the levels \
            that were chosen for it. The upper charts show the whole range, and bars are shares of all \
            numbers in powers of ten, so that rare large numbers can be seen at all; the lower \
            charts magnify the middle, where "
            span.key.line {} " marks each level. Measured on the float model's activations for "
            (counted(data.tail_images, "image")) "."
        }
        @for tail in &data.tails {
            h3 { (tail.layer) }
            p.soft {
                "Chosen: " (tail.choice) ". Kurtosis " (format!("{:.0}", tail.kurtosis))
                " (3 for a bell curve; the larger, the heavier the tails)."
            }
            div.card {
                div.pair {
                    (panel(tail, "before", &tail.before, html! { "Plain: " }))
                    (panel(tail, "after", &tail.after, html! { "This model: " }))
                }
            }
        }
    }
}

fn panel(tail: &Tail, when: &str, panel: &Panel, title: Markup) -> Markup {
    let label = |part: &str| format!("{} {when} the bias, {part}", tail.layer);
    let levels = if panel.busy_levels == 1 {
        "level"
    } else {
        "levels"
    };
    html! {
        figure {
            figcaption {
                b { (title) } "99 % of the numbers share " b { (panel.busy_levels) " " (levels) }
                " of " (panel.levels.len()) "."
            }
            (chart::histogram(&label("whole range"), "value, whole range", &panel.full, &panel.levels, true))
            @let (middle, axis) = (label("the middle"), "value, the middle magnified");
            (chart::histogram(&middle, axis, &panel.zoom, &panel.levels, false))
        }
    }
}

fn errors(data: &ReportData) -> Markup {
    html! {
        h2 { "Error of each layer" }
        p {
            "How far each layer's output is from the float model's: squared error divided by the squared \
            size of the output, on a scale of powers of ten. " span.key {} " the layer "
            b { "alone" } ", given exactly the input that the float model gives it: what \
            rounding in this layer does. " span.key.ring {}
            " the layer " b { "along the way" } ", given what the quantized layers before it made of the \
            image: what has gathered up to there."
        }
        figure.card.scroll { (chart::errors(&data.comparison.layers)) }
    }
}

fn latency(data: &ReportData) -> Markup {
    let mut settings: Vec<(usize, usize)> = Vec::new();
    for row in &data.latency {
        if !settings.contains(&(row.threads, row.batch)) {
            settings.push((row.threads, row.batch));
        }
    }
    html! {
        h2 { "Latency" }
        p {
            "Median time of an image in milliseconds, shorter is better, on each instruction set that this \
            machine's processor has (but plain code without one, which is far slower). The f32 model runs on \
            the kernel "
            code { (data.float_kernel) }
            ". Softmax, LayerNorm and GELU are f32 in all of them; the products of attention are "
            (data.attention) " in the quantized ones."
        }
        @for (threads, batch) in settings {
            @let rows = data.latency.iter().filter(|row| (row.threads, row.batch) == (threads, batch));
            @let rows: Vec<&Timing> = rows.collect();
            @let label = format!(
                "{} at a time on {}",
                counted(batch, "image"),
                counted(threads, "thread"),
            );
            figure.card.scroll {
                figcaption { b { (label) } }
                (chart::bars(&label, &bars(&rows)))
            }
        }
    }
}

/// What other bits would have given.
fn widths(rows: &[Timing]) -> Markup {
    let mut threads: Vec<usize> = rows.iter().map(|row| row.threads).collect();
    threads.dedup();
    let first = threads.first().copied();
    let names = rows.iter().filter(|row| Some(row.threads) == first);
    let milliseconds = |at: usize, count: usize| {
        let mut same = rows.iter().filter(|row| row.threads == count);
        let row = same.nth(at);
        row.map_or(String::new(), |row| format!("{:.1}", row.med_ms))
    };
    html! {
        h2 { "Fewer bits, or more" }
        p {
            "The same checkpoint with weights and inputs of other bits, and the milliseconds that an image \
            takes on the fastest instruction set. W4A8 has weights of 4 bits and inputs of 8. All but the \
            model of this page were made in passing, calibrated on every other image, with a shift and a \
            scale for each channel or with neither; their cosine is the mean over the rest. What "
            code { "noisyquant quantize" }
            " chooses is nearer to f32."
        }
        figure.card.scroll {
            table {
                thead { tr {
                    th { "model" }
                    th { "cosine" }
                    @for count in &threads { th.number { (counted(*count, "thread")) } }
                } }
                tbody {
                    @for (at, row) in names.enumerate() {
                        tr {
                            td { (row.name) @if row.bits != FLOAT_BITS && !row.noise { ", no bias" } }
                            td { @if let Some(cosine) = row.cosine { (format!("{cosine:.4}")) } }
                            @for count in &threads { td.number { (milliseconds(at, *count)) } }
                        }
                    }
                }
            }
        }
    }
}

fn counted(count: usize, what: &str) -> String {
    match count {
        1 => format!("one {what}"),
        _ => format!("{count} {what}s"),
    }
}

fn bars(rows: &[&Timing]) -> Vec<chart::Bar> {
    let float = rows
        .iter()
        .find(|row| row.bits == FLOAT_BITS)
        .map(|row| row.med_ms);
    let bar = |row: &&Timing| {
        let is_float = row.bits == FLOAT_BITS;
        let gain = float.filter(|_| !is_float).map(|float| float / row.med_ms);
        let gain = gain.map_or(String::new(), |gain| format!("  ({gain:.1} ×)"));
        chart::Bar {
            label: match is_float {
                true => "f32".into(),
                false => format!("{}, {}", row.name, row.isa),
            },
            value: row.med_ms,
            text: format!("{:.1} ms{gain}", row.med_ms),
            class: if is_float { "float" } else { "bar" },
        }
    };
    rows.iter().map(bar).collect()
}

fn choices(choices: &[Choice], errors: &[LayerError]) -> Markup {
    let bits = |choice: &Choice| match choice.bits {
        Some([weights, activations]) => format!("W{weights}A{activations}"),
        None => "f32".into(),
    };
    html! {
        h2 { "What was chosen" }
        p {
            "W8A6 means 8 bits for weights and 6 bits for inputs; errors are those of the chart above. The \
            rest says where the levels are and what else was done:"
        }
        ul.soft {
            li { b { "symmetric, centred, twin" } ": levels as far below zero as above; the same without one \
                at zero itself; or fine steps below zero and coarse steps above" }
            li { b { "min-max, percentile, searched" } ": the levels reach to the largest number seen in \
                calibration, to less than that, or as far as makes the output best; × 1.25 leaves as much \
                room for larger ones" }
            li { b { "shift, scale, noise" } ": the bias and scale of each channel, as above; the larger the \
                scale's number, from 0 to 1, the more alike channels become; onto a level: a channel's mean \
                falls on a level" }
            li { b { "weights clipped, compensated" } ": the largest weights are cut off where that helps \
                the rest; the rounding errors of weights make up for each other" }
            li { b { "bias corrected" } ": the average error of each output is subtracted" }
        }
        div.card.scroll {
            table {
                thead {
                    tr {
                        th { "layer" } th { "bits" } th { "choice" }
                        th.number { "alone" } th.number { "along the way" }
                    }
                }
                tbody {
                    @for (choice, error) in choices.iter().zip(errors) {
                        tr {
                            td { (choice.layer) } td { (bits(choice)) } td { (choice.words) }
                            td.number { (format!("{:.2e}", error.alone)) }
                            td.number { (format!("{:.2e}", error.along)) }
                        }
                    }
                }
            }
        }
    }
}
