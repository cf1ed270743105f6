//! Names of classes, and how logits are judged.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{checkpoint::Entries, error::Error, warning::Warnings};

/// What a logit says of its class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Judgement {
    /// One class is true: probabilities are softmax over the logits.
    #[default]
    OneOfAll,
    /// Each class is true or not: probabilities are the sigmoid of each logit.
    EachAlone,
}

impl Judgement {
    /// That of so many classes where nothing else is said: a single class is true or not.
    pub(crate) fn usual(classes: usize) -> Self {
        match classes {
            1 => Self::EachAlone,
            _ => Self::OneOfAll,
        }
    }

    /// The probability of each class.
    pub fn probabilities(self, logits: &[f32]) -> Vec<f64> {
        let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let power = |logit: &f32| (f64::from(*logit) - f64::from(most)).exp();
        let sum: f64 = logits.iter().map(power).sum();
        let probability = |logit: &f32| match self {
            Self::OneOfAll => power(logit) / sum,
            Self::EachAlone => 1.0 / (1.0 + (-f64::from(*logit)).exp()),
        };
        logits.iter().map(probability).collect()
    }
}

/// Names by id out of entry `key`, a list or an object whose keys are ids: one for each class, or none at
/// all. `LABEL_3` is no name of class 3.
pub(super) fn read(
    entries: &Entries,
    key: &str,
    classes: usize,
    warnings: &mut Warnings,
) -> Result<Vec<Option<String>>, Error> {
    let expected = "names in a list, or in an object by id";
    let refuse = || entries.refuse(key, expected);
    let named: Vec<(usize, &Value)> = match entries.get(key) {
        None => Vec::new(),
        Some(Value::Array(names)) => names.iter().enumerate().collect(),
        Some(Value::Object(names)) => {
            let by_id = names
                .iter()
                .map(|(id, name)| Some((id.trim().parse().ok()?, name)));
            by_id.collect::<Option<_>>().ok_or_else(refuse)?
        }
        Some(_) => return Err(refuse()),
    };
    let mut labels = vec![None; classes];
    let (mut count, mut beyond) = (0, 0);
    for (id, name) in named {
        let name = match name {
            Value::Null => continue,
            Value::String(name) => name.clone(),
            Value::Number(name) => name.to_string(),
            _ => return Err(refuse()),
        };
        if name == format!("LABEL_{id}") {
            continue;
        }
        count += 1;
        match labels.get_mut(id) {
            Some(label) => *label = Some(name),
            None => beyond += 1,
        }
    }
    if count > classes && classes > 0 {
        let expected = format!("names for {classes} classes, as in the tensors");
        return Err(entries.wrong(key, &expected, format!("{count} names")));
    }
    if beyond > 0 && classes > 0 {
        let what = entries.name(key);
        let text = format!("expected names for the {classes} classes of the tensors");
        warnings.add(
            &what,
            format!("{text}, got {beyond} for others; passed over"),
        );
    }
    match labels.iter().all(Option::is_none) {
        true => Ok(Vec::new()),
        false => Ok(labels),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_are_those_of_softmax_or_sigmoid() {
        let logits = [1.0, 0.0, -1e30, f32::MIN];
        let of_all = Judgement::OneOfAll.probabilities(&logits);
        assert!(
            (of_all[0] - 0.731_058_578_630_004_9).abs() < 1e-12,
            "{of_all:?}"
        );
        assert_eq!(of_all[2..], [0.0, 0.0]);
        let alone = Judgement::EachAlone.probabilities(&logits);
        assert!(
            (alone[0] - 0.731_058_578_630_004_9).abs() < 1e-12,
            "{alone:?}"
        );
        assert_eq!(alone[1..], [0.5, 0.0, 0.0]);
        assert_eq!(Judgement::usual(1).probabilities(&[0.0]), [0.5]);
    }
}
