//! Units of quantities and how they convert.

/// A unit: what it measures and how much of the base unit it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Unit {
    /// The base unit.
    pub(crate) measures: &'static str,
    /// Base units in one of it.
    pub(crate) factor: f64,
}

/// A month is a twelfth of a year of 365.25 days.
const UNITS: &[(&str, f64, &[&str])] = &[
    ("percent", 1.0, &["%", "percent", "per cent", "pct"]),
    ("second", 0.001, &["ms", "millisecond", "milliseconds"]),
    ("second", 1.0, &["s", "sec", "secs", "second", "seconds"]),
    ("second", 60.0, &["min", "mins", "minute", "minutes"]),
    ("second", 3_600.0, &["h", "hr", "hrs", "hour", "hours"]),
    ("second", 86_400.0, &["d", "day", "days", "night", "nights"]),
    ("second", 604_800.0, &["week", "weeks"]),
    ("second", 2_629_800.0, &["month", "months"]),
    ("second", 31_557_600.0, &["y", "yr", "yrs", "year", "years"]),
    ("byte", 1.0, &["byte", "bytes"]),
    ("byte", 1e3, &["kb", "kilobyte", "kilobytes"]),
    ("byte", 1e6, &["mb", "megabyte", "megabytes"]),
    ("byte", 1e9, &["gb", "gigabyte", "gigabytes", "gig", "gigs"]),
    ("byte", 1e12, &["tb", "terabyte", "terabytes"]),
    ("byte", 1_048_576.0, &["mib"]),
    ("byte", 1_073_741_824.0, &["gib"]),
    ("metre", 0.001, &["mm", "millimetre", "millimetres", "millimeter", "millimeters"]),
    ("metre", 0.01, &["cm", "centimetre", "centimetres", "centimeter", "centimeters"]),
    ("metre", 1.0, &["m", "metre", "metres", "meter", "meters"]),
    ("metre", 1e3, &["km", "kilometre", "kilometres", "kilometer", "kilometers"]),
    ("gram", 0.001, &["mg", "milligram", "milligrams"]),
    ("gram", 1.0, &["g", "gram", "grams"]),
    ("gram", 1e3, &["kg", "kilo", "kilos", "kilogram", "kilograms"]),
    ("litre", 0.001, &["ml", "millilitre", "millilitres", "milliliter", "milliliters"]),
    ("litre", 1.0, &["l", "litre", "litres", "liter", "liters"]),
    ("degree", 1.0, &["\u{b0}", "\u{b0}c", "c", "degree", "degrees", "celsius"]),
    ("dollar", 1.0, &["$", "usd", "dollar", "dollars", "buck", "bucks"]),
    ("euro", 1.0, &["\u{20ac}", "eur", "euro", "euros"]),
    ("ppm", 1.0, &["ppm"]),
    ("watt", 1.0, &["w", "watt", "watts"]),
    ("watt", 1e3, &["kw", "kilowatt", "kilowatts"]),
];

impl Unit {
    /// The unit of that spelling, in lower case.
    pub(crate) fn named(name: &str) -> Option<Unit> {
        let known = UNITS.iter().find(|(_, _, names)| names.contains(&name))?;
        Some(Unit { measures: known.0, factor: known.1 })
    }
}
