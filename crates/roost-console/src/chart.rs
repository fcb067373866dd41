//! Small charts as SVG.

use std::fmt::Write as _;

const WIDTH: f64 = 240.0;
const HEIGHT: f64 = 48.0;

/// A line over the last hour, with the largest value beside it; `None` where nothing was measured.
pub(crate) fn line(values: &[Option<f64>], label: &str) -> String {
    let known = values.iter().flatten();
    let most = known.clone().fold(0.0_f64, |most, value| most.max(*value));
    let last = known.last().copied().unwrap_or(0.0);
    let scale = if most > 0.0 { most } else { 1.0 };
    let step = WIDTH / (values.len().max(2) - 1) as f64;
    let mut path = String::new();
    let mut is_drawn = false;
    for (index, value) in values.iter().enumerate() {
        match value {
            Some(value) => {
                let (x, y) = (index as f64 * step, HEIGHT - 3.0 - value / scale * (HEIGHT - 8.0));
                // A point that stands alone is a short line.
                let begin =
                    if is_drawn { String::new() } else { format!("M{:.1} {y:.1}", (x - 2.0).max(0.0)) };
                let _ = write!(path, "{begin}L{x:.1} {y:.1}");
                is_drawn = true;
            }
            None => is_drawn = false,
        }
    }
    let (label, last, most, floor) = (escaped(label), number(last), number(most), HEIGHT - 3.0);
    format!(
        "<svg class=\"chart\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{label}: {last}, {most}\" \
         preserveAspectRatio=\"none\"><path class=\"floor\" d=\"M0 {floor}L{WIDTH} {floor}\"/>\
         <path class=\"line\" d=\"{path}\"/></svg>"
    )
}

/// Without digits that say nothing.
pub(crate) fn number(value: f64) -> String {
    match value {
        value if value >= 10.0 || value.fract() == 0.0 => format!("{value:.0}"),
        value => format!("{value:.1}"),
    }
}

pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_gaps_where_nothing_is_known_and_stays_inside() {
        let svg = line(&[Some(0.0), Some(5.0), None, Some(10.0)], "calls \"now\"");
        assert!(svg.contains("calls &quot;now&quot;: 10, 10"), "{svg}");
        assert_eq!(svg.matches('M').count(), 3, "the floor, and two pieces: {svg}");
        assert!(line(&[], "none").contains("<svg"));
    }
}
