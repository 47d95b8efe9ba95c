//! Quantities as Kubernetes writes them: `128Mi`, `500m`, `90s`.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Memory in bytes: `128Mi`, `1Gi`, `64k` or a plain number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Memory(pub u64);

/// Processor time in thousandths of a core: `500m`, `2`, `0.5`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cpu(pub u64);

/// A length of time: `300ms`, `90s`, `5m`, `1h`, or a plain number of seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(pub Duration);

/// A quantity that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {what}")]
pub struct InvalidQuantity {
    text: String,
    what: &'static str,
}

/// Splits `12.5Mi` in number and unit.
fn split(text: &str) -> Option<(f64, &str)> {
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let number: f64 = number.parse().ok()?;
    number.is_finite().then_some((number, unit))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked to lie between 0 and 2^53, where f64 holds whole numbers exactly"
)]
fn whole(number: f64) -> Option<u64> {
    (0.0..=9_007_199_254_740_992.0).contains(&number).then_some(number.round() as u64)
}

impl Memory {
    /// # Errors
    /// When `text` is not an amount of memory.
    pub fn parse(text: &str) -> Result<Self, InvalidQuantity> {
        let read = || {
            let (number, unit) = split(text)?;
            let factor = match unit {
                "" => 1.0,
                "k" | "K" => 1e3,
                "M" => 1e6,
                "G" => 1e9,
                "Ki" => 1024.0,
                "Mi" => 1_048_576.0,
                "Gi" => 1_073_741_824.0,
                _ => return None,
            };
            whole(number * factor)
        };
        read().map(Self).ok_or_else(|| InvalidQuantity {
            text: text.to_owned(),
            what: "an amount of memory such as 128Mi or 1Gi",
        })
    }
}

impl Cpu {
    /// # Errors
    /// When `text` is not an amount of processor time.
    pub fn parse(text: &str) -> Result<Self, InvalidQuantity> {
        let read = || {
            let (number, unit) = split(text)?;
            match unit {
                "" => whole(number * 1000.0),
                "m" => whole(number),
                _ => None,
            }
        };
        read().map(Self).ok_or_else(|| InvalidQuantity {
            text: text.to_owned(),
            what: "an amount of processor time such as 500m or 2",
        })
    }
}

impl Period {
    /// # Errors
    /// When `text` is not a length of time.
    pub fn parse(text: &str) -> Result<Self, InvalidQuantity> {
        let read = || {
            let (number, unit) = split(text)?;
            let millis = match unit {
                "ms" => number,
                "" | "s" => number * 1e3,
                "m" => number * 60e3,
                "h" => number * 3_600e3,
                _ => return None,
            };
            whole(millis).map(Duration::from_millis)
        };
        read().map(Self).ok_or_else(|| InvalidQuantity {
            text: text.to_owned(),
            what: "a length of time such as 500ms, 90s, 5m or 1h",
        })
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, unit) = [(1 << 30, "Gi"), (1 << 20, "Mi"), (1 << 10, "Ki")]
            .into_iter()
            .find(|(size, _)| self.0 >= *size && self.0.is_multiple_of(*size))
            .map_or((self.0, ""), |(size, unit)| (self.0 / size, unit));
        write!(f, "{number}{unit}")
    }
}

impl fmt::Display for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}m", self.0)
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        if millis.is_multiple_of(1000) { write!(f, "{}s", millis / 1000) } else { write!(f, "{millis}ms") }
    }
}

/// A number or a string, as YAML gives either.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a number or a string")]
enum Scalar {
    Whole(u64),
    Real(f64),
    Text(String),
}

impl Scalar {
    fn text(self) -> String {
        match self {
            Self::Whole(number) => number.to_string(),
            Self::Real(number) => number.to_string(),
            Self::Text(text) => text,
        }
    }
}

macro_rules! quantity {
    ($($type:ty),*) => {$(
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::parse(&Scalar::deserialize(deserializer)?.text()).map_err(serde::de::Error::custom)
            }
        }
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    )*};
}
quantity!(Memory, Cpu, Period);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes() {
        for (text, bytes) in [("128Mi", 134_217_728), ("1Gi", 1 << 30), ("64k", 64_000), ("7", 7)] {
            assert_eq!(Memory::parse(text).unwrap(), Memory(bytes), "{text}");
        }
        for (text, millis) in [("500m", 500), ("2", 2000), ("0.5", 500)] {
            assert_eq!(Cpu::parse(text).unwrap(), Cpu(millis), "{text}");
        }
        for (text, millis) in [("300s", 300_000), ("5m", 300_000), ("20ms", 20), ("1", 1000)] {
            assert_eq!(Period::parse(text).unwrap().0, Duration::from_millis(millis), "{text}");
        }
        assert_eq!(Memory(134_217_728).to_string(), "128Mi");
    }

    #[test]
    fn refuses() {
        for text in ["", "Mi", "12Zi", "-1", "1e999", "nan"] {
            assert!(Memory::parse(text).is_err(), "{text}");
            assert!(Cpu::parse(text).is_err(), "{text}");
            assert!(Period::parse(text).is_err(), "{text}");
        }
    }
}
