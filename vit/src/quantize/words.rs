//! Choices in words, for tables and pages.

use noisyquant::{ChannelScale, Noise, Recipe, Shift, WeightRange};

use crate::model::LayerReport;

/// What was chosen for a layer beside its bits, such as `symmetric min-max + noise`.
pub(crate) fn choice(report: &LayerReport) -> String {
    match &report.recipe {
        Some(recipe) => words(recipe),
        None => "stays in f32".into(),
    }
}

/// Bits of weights and activations, such as `W8A6`.
pub(crate) fn bits(report: &LayerReport) -> String {
    match report.recipe {
        Some(_) => format!("W{}A{}", report.weight_bits, report.activation_bits),
        None => "f32".into(),
    }
}

fn words(recipe: &Recipe) -> String {
    let mut parts = vec![recipe.quantizer.to_string()];
    match recipe.shift {
        Shift::None => {}
        Shift::Mean => parts.push("shift by the mean".into()),
        Shift::MidRangeOnLevel => parts.push("shift onto a level".into()),
        _ => parts.push("shift".into()),
    }
    match &recipe.channel_scale {
        ChannelScale::None => {}
        ChannelScale::Strength(strength) if *strength == 0.0 => {}
        ChannelScale::Strength(strength) => parts.push(format!("scale {strength}")),
        _ => parts.push("scale".into()),
    }
    if recipe.noise != Noise::None {
        parts.push("noise".into());
    }
    match (recipe.weights.range, recipe.weights.compensation) {
        (WeightRange::MinMax, None) => {}
        (WeightRange::MinMax, Some(_)) => parts.push("weights compensated".into()),
        (WeightRange::Mse, None) => parts.push("weights clipped".into()),
        (WeightRange::Mse, Some(_)) => parts.push("weights clipped and compensated".into()),
        (_, None) => parts.push("weights searched".into()),
        (_, Some(_)) => parts.push("weights searched and compensated".into()),
    }
    if recipe.bias_correction {
        parts.push("bias corrected".into());
    }
    parts.join(" + ")
}
