//! Plots as SVG: lines over a grid, drawn here, so that a report needs nothing else.

use std::fmt::Write;

const WIDTH: f64 = 920.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 78.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 40.0;

/// A line.
pub struct Series {
    pub name: String,
    /// Of the style sheet: `a` to `f`.
    pub class: &'static str,
    pub points: Vec<(f64, f64)>,
    /// Whether what is below it is tinted.
    pub filled: bool,
}

/// Where numbers go.
pub struct Axis {
    pub label: &'static str,
    /// Each doubling as far as the next, for what spans orders of magnitude.
    pub logarithmic: bool,
    pub ticks: Ticks,
}

/// The numbers on an axis.
pub enum Ticks {
    /// Round ones, written by this.
    Round(fn(f64) -> String),
    /// These.
    Fixed(Vec<(f64, String)>),
}

pub struct Plot {
    pub title: &'static str,
    pub x: Axis,
    pub y: Axis,
    pub series: Vec<Series>,
    /// What does not count, from the left up to here.
    pub shaded: Option<f64>,
}

/// Maps values to places on the page.
struct Scale {
    low: f64,
    high: f64,
    logarithmic: bool,
    from: f64,
    to: f64,
}

impl Scale {
    fn place(&self, value: f64) -> f64 {
        let map = |value: f64| if self.logarithmic { value.max(f64::MIN_POSITIVE).log10() } else { value };
        let (low, high) = (map(self.low), map(self.high));
        let share = if high > low { (map(value) - low) / (high - low) } else { 0.0 };
        // What is no number has no place; it goes where the least is.
        let share = if share.is_nan() { 0.0 } else { share.clamp(0.0, 1.0) };
        self.from + share * (self.to - self.from)
    }
}

impl Plot {
    pub fn render(&self) -> String {
        let points = || self.series.iter().flat_map(|series| &series.points);
        let x_scale = scale(&self.x, points().map(|point| point.0), LEFT, WIDTH - RIGHT, 1.0);
        let y_scale = scale(&self.y, points().map(|point| point.1), HEIGHT - BOTTOM, TOP, 1.08);
        let mut svg = format!(
            r#"<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{}" xmlns="http://www.w3.org/2000/svg">"#,
            escape(self.title)
        );
        if let Some(shaded) = self.shaded {
            let width = x_scale.place(shaded) - LEFT;
            let height = HEIGHT - BOTTOM - TOP;
            let _ =
                write!(svg, r#"<rect class="shade" x="{LEFT}" y="{TOP}" width="{width:.1}" height="{height:.1}"/>"#);
            let _ = write!(svg, r#"<text class="tick" x="{:.1}" y="{:.1}">warm-up</text>"#, LEFT + 4.0, TOP + 13.0);
        }
        for (value, label) in ticks(&self.y, &y_scale) {
            let y = y_scale.place(value);
            let _ =
                write!(svg, r#"<line class="grid" x1="{LEFT}" x2="{:.1}" y1="{y:.1}" y2="{y:.1}"/>"#, WIDTH - RIGHT);
            let (x, y, label) = (LEFT - 8.0, y + 4.0, escape(&label));
            let _ = write!(svg, r#"<text class="tick end" x="{x:.1}" y="{y:.1}">{label}</text>"#);
        }
        for (value, label) in ticks(&self.x, &x_scale) {
            let (x, low, high, text) =
                (x_scale.place(value), HEIGHT - BOTTOM, HEIGHT - BOTTOM + 5.0, HEIGHT - BOTTOM + 19.0);
            let _ = write!(svg, r#"<line class="axis" x1="{x:.1}" x2="{x:.1}" y1="{low}" y2="{high}"/>"#);
            let _ = write!(svg, r#"<text class="tick middle" x="{x:.1}" y="{text}">{}</text>"#, escape(&label));
        }
        let base = HEIGHT - BOTTOM;
        let _ = write!(svg, r#"<line class="axis" x1="{LEFT}" x2="{:.1}" y1="{base}" y2="{base}"/>"#, WIDTH - RIGHT);
        let (x, y) = ((LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 5.0);
        let _ = write!(svg, r#"<text class="label middle" x="{x:.1}" y="{y:.1}">{}</text>"#, escape(self.x.label));
        let (x, y) = (14.0, f64::midpoint(TOP, base));
        let _ = write!(
            svg,
            r#"<text class="label middle" x="{x}" y="{y:.1}" transform="rotate(-90 {x} {y:.1})">{}</text>"#,
            escape(self.y.label)
        );
        for series in &self.series {
            draw(&mut svg, series, &x_scale, &y_scale);
        }
        svg.push_str("</svg>");
        svg
    }

    /// What the lines are.
    pub fn legend(&self) -> String {
        let mut legend = String::from(r#"<p class="legend">"#);
        for Series { name, class, .. } in &self.series {
            let _ = write!(legend, r#"<span class="{class}"><i></i>{}</span>"#, escape(name));
        }
        legend + "</p>"
    }
}

fn draw(svg: &mut String, series: &Series, x_scale: &Scale, y_scale: &Scale) {
    let class = series.class;
    let place = |&(x, y): &(f64, f64)| (x_scale.place(x), y_scale.place(y));
    let mut line = String::new();
    for (x, y) in series.points.iter().map(place) {
        let _ = write!(line, "{x:.1},{y:.1} ");
    }
    let line = line.trim_end();
    if series.filled
        && let (Some(first), Some(last)) = (series.points.first().map(place), series.points.last().map(place))
    {
        let base = HEIGHT - BOTTOM;
        let (left, right) = (first.0, last.0);
        let _ = write!(svg, r#"<polygon class="area {class}" points="{left:.1},{base} {line} {right:.1},{base}"/>"#);
    }
    let _ = write!(svg, r#"<polyline class="line {class}" points="{line}"/>"#);
    // A few points are seen one by one.
    if series.points.len() <= 60 {
        for (x, y) in series.points.iter().map(place) {
            let _ = write!(svg, r#"<circle class="{class}" cx="{x:.1}" cy="{y:.1}" r="2.2"/>"#);
        }
    }
}

/// From zero to the greatest value times `room`; a logarithmic one from and to round numbers.
fn scale(axis: &Axis, values: impl Iterator<Item = f64>, from: f64, to: f64, room: f64) -> Scale {
    let values = values.filter(|value| value.is_finite() && (!axis.logarithmic || *value > 0.0));
    let range = values.fold(None, |range: Option<(f64, f64)>, value| {
        let (low, high) = range.unwrap_or((value, value));
        Some((low.min(value), high.max(value)))
    });
    let (mut low, mut high) = range.unwrap_or((0.0, 1.0));
    if axis.logarithmic {
        // To the next round number on both sides.
        (low, high) = (round_down(low.max(f64::MIN_POSITIVE)), round_up(high.max(f64::MIN_POSITIVE)));
        high = high.max(low * 10.0);
    } else {
        (low, high) = (0.0, if high > 0.0 { high * room } else { 1.0 });
    }
    Scale { low, high, logarithmic: axis.logarithmic, from, to }
}

fn ticks(axis: &Axis, scale: &Scale) -> Vec<(f64, String)> {
    let within = |value: f64| value >= scale.low * 0.999_999 && value <= scale.high * 1.000_001;
    match &axis.ticks {
        Ticks::Fixed(ticks) => ticks.iter().filter(|(value, _)| within(*value)).cloned().collect(),
        Ticks::Round(write) if scale.logarithmic => {
            let decades = (scale.low.log10().floor() as i32)..=(scale.high.log10().ceil() as i32);
            let wide = decades.clone().count() > 4;
            let steps: &[f64] = if wide { &[1.0] } else { &[1.0, 2.0, 5.0] };
            decades
                .flat_map(|decade| steps.iter().map(move |step| step * 10f64.powi(decade)))
                .filter(|value| within(*value))
                .map(|value| (value, write(value)))
                .collect()
        }
        Ticks::Round(write) => {
            let step = round_up((scale.high - scale.low) / 8.0);
            let first = (scale.low / step).ceil() as i64;
            (first..first + 20)
                .map(|number| number as f64 * step)
                .take_while(|value| *value <= scale.high)
                .map(|value| (value, write(value)))
                .collect()
        }
    }
}

/// The smallest of 1, 2 and 5 times a power of ten that is not smaller.
fn round_up(value: f64) -> f64 {
    let power = 10f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|step| step * power)
        .find(|round| *round >= value * 0.999_999)
        .unwrap_or(value)
}

/// The largest of 1, 2 and 5 times a power of ten that is not larger.
fn round_down(value: f64) -> f64 {
    let power = 10f64.powf(value.log10().floor());
    [5.0, 2.0, 1.0].into_iter().map(|step| step * power).find(|round| *round <= value * 1.000_001).unwrap_or(power)
}

/// Text for HTML and SVG, in attributes too.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(points: Vec<(f64, f64)>, logarithmic: bool) -> Plot {
        let number = |value: f64| format!("{value}");
        Plot {
            title: "a < b",
            x: Axis { label: "s", logarithmic: false, ticks: Ticks::Round(number) },
            y: Axis { label: "µs", logarithmic, ticks: Ticks::Round(number) },
            series: vec![Series { name: "p50".to_owned(), class: "a", points, filled: true }],
            shaded: Some(1.0),
        }
    }

    #[test]
    fn round_numbers() {
        for (value, up, down) in
            [(1.0, 1.0, 1.0), (1.1, 2.0, 1.0), (34.0, 50.0, 20.0), (0.07, 0.1, 0.05), (999.0, 1000.0, 500.0)]
        {
            assert!((round_up(value) - up).abs() < up * 1e-9, "{value}");
            assert!((round_down(value) - down).abs() < down * 1e-9, "{value}");
        }
    }

    #[test]
    fn lines_stay_on_the_page() {
        for points in [
            vec![],
            vec![(1.0, 0.0)],
            vec![(1.0, 5.0), (2.0, 1e9), (3.0, 0.0)],
            vec![(0.0, f64::NAN), (1.0, f64::INFINITY), (2.0, 3.0)],
        ] {
            for logarithmic in [false, true] {
                let svg = plot(points.clone(), logarithmic).render();
                let line = svg.split(r#"<polyline class="line a" points=""#).nth(1).unwrap().split('"').next().unwrap();
                let places: Vec<(f64, f64)> = line
                    .split_whitespace()
                    .map(|place| place.split_once(',').map(|(x, y)| (x.parse().unwrap(), y.parse().unwrap())).unwrap())
                    .collect();
                assert_eq!(places.len(), points.len());
                for (x, y) in places {
                    assert!((LEFT..=WIDTH - RIGHT).contains(&x), "{x} in {svg}");
                    assert!((TOP..=HEIGHT - BOTTOM).contains(&y), "{y} in {svg}");
                }
            }
        }
    }

    #[test]
    fn higher_values_are_higher() {
        let svg = plot(vec![(1.0, 10.0), (2.0, 100.0), (3.0, 1000.0)], true).render();
        assert!(svg.contains(r#"points="353.3,260.0 628.7,137.0 904.0,14.0""#), "{svg}");
        assert!(svg.contains("a &lt; b"));
    }
}
