//! Line plots as SVG, drawn with the page's own colours.
//!
//! Everything that has a colour has a class instead, so that one drawing serves light and dark pages.

use std::fmt::Write;

use super::escape;

const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 236.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 10.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 34.0;
/// Ticks on an axis, about.
const TICKS: f64 = 5.0;
/// Ticks at whole numbers, at most.
const WHOLE_TICKS: f64 = 10.0;
/// Room above the highest value.
const HEADROOM: f64 = 1.06;

/// How values are spread over an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Evenly, from 0, with ticks at round numbers.
    Linear,
    /// Evenly, from 0, with a tick at each whole number.
    Whole,
    /// By their order of magnitude.
    Log,
}

/// An axis.
#[derive(Clone, Copy)]
pub struct Axis {
    /// What it measures.
    pub name: &'static str,
    /// How values are spread.
    pub scale: Scale,
    /// How a tick is labelled.
    pub label: fn(f64) -> String,
}

/// How a series is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// A line.
    Line,
    /// A line with the area below it filled.
    Area,
    /// A dot for each value.
    Dots,
}

/// Values that belong together.
pub struct Series {
    /// What they are, for the legend.
    pub name: &'static str,
    /// Class that colours them.
    pub class: &'static str,
    /// How they are drawn.
    pub style: Style,
    /// Points from left to right; a missing value interrupts the line.
    pub points: Vec<(f64, Option<f64>)>,
}

/// A plot.
pub struct Plot {
    /// What it shows, for those who cannot see it.
    pub title: &'static str,
    /// From left to right.
    pub x: Axis,
    /// From bottom to top.
    pub y: Axis,
    /// The lowest top of the vertical axis, so that tiny values do not look large.
    pub y_top_min: f64,
    /// What is drawn.
    pub series: Vec<Series>,
    /// Text that is shown over each x.
    pub notes: Vec<(f64, String)>,
}

impl Plot {
    /// The figure element, with legend.
    #[must_use]
    pub fn draw(&self) -> String {
        let xs = self.series.iter().flat_map(|series| series.points.iter().map(|(x, _)| *x));
        let ys = self.series.iter().flat_map(|series| series.points.iter().filter_map(|(_, y)| *y));
        let x = Spread::new(self.x.scale, xs, 0.0, LEFT, WIDTH - RIGHT);
        let mut y = Spread::new(self.y.scale, ys, self.y_top_min, HEIGHT - BOTTOM, TOP);
        if self.y.scale == Scale::Linear {
            y.high *= HEADROOM;
        }

        let mut out = String::new();
        let _ = write!(out, "<figure><figcaption><h3>{}</h3>", escape(self.title));
        if self.series.len() > 1 {
            out.push_str("<ul class=\"legend\">");
            for series in &self.series {
                let _ = write!(out, "<li class=\"{}\">{}</li>", series.class, escape(series.name));
            }
            out.push_str("</ul>");
        }
        let _ = write!(
            out,
            "</figcaption><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">",
            escape(self.title)
        );
        self.draw_axes(&mut out, &x, &y);
        for series in &self.series {
            draw_series(&mut out, series, &x, &y);
        }
        self.draw_notes(&mut out, &x);
        out.push_str("</svg></figure>\n");
        out
    }

    fn draw_axes(&self, out: &mut String, x: &Spread, y: &Spread) {
        let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
        for tick in y.ticks() {
            let (at, label) = (y.place(tick), escape(&(self.y.label)(tick)));
            let _ = write!(
                out,
                "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{right}\"/><text class=\"tick\" x=\"{}\" y=\"{:.1}\" \
                 text-anchor=\"end\">{label}</text>",
                LEFT - 6.0,
                at + 3.5
            );
        }
        for tick in x.ticks() {
            let (at, label) = (x.place(tick), escape(&(self.x.label)(tick)));
            let _ = write!(
                out,
                "<path class=\"grid\" d=\"M{at:.1} {bottom}v4\"/><text class=\"tick\" x=\"{at:.1}\" y=\"{}\" \
                 text-anchor=\"middle\">{label}</text>",
                bottom + 15.0
            );
        }
        let _ = write!(
            out,
            "<path class=\"axis\" d=\"M{LEFT} {bottom}H{right}\"/><text class=\"name\" x=\"{right}\" y=\"{}\" \
             text-anchor=\"end\">{}</text>",
            HEIGHT - 5.0,
            escape(self.x.name)
        );
    }

    /// Invisible bands that light up under the pointer and tell what is there.
    fn draw_notes(&self, out: &mut String, x: &Spread) {
        for (index, (at, text)) in self.notes.iter().enumerate() {
            let middle = |other: Option<&(f64, String)>, edge: f64| {
                other.map_or(edge, |(other, _)| x.place(*other).midpoint(x.place(*at)))
            };
            let begin = middle(index.checked_sub(1).and_then(|before| self.notes.get(before)), LEFT);
            let end = middle(self.notes.get(index + 1), WIDTH - RIGHT);
            let _ = write!(
                out,
                "<rect class=\"band\" x=\"{begin:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{}\"><title>{}</title></rect>",
                (end - begin).max(0.0),
                HEIGHT - BOTTOM - TOP,
                escape(text)
            );
        }
    }
}

fn draw_series(out: &mut String, series: &Series, x: &Spread, y: &Spread) {
    let Series { class, style, points, .. } = series;
    let placed = |(at, value): &(f64, Option<f64>)| value.map(|value| (x.place(*at), y.place(value)));
    if *style == Style::Dots {
        for (at, value) in points.iter().filter_map(placed) {
            let _ = write!(out, "<circle class=\"{class}\" cx=\"{at:.1}\" cy=\"{value:.1}\" r=\"4\"/>");
        }
        return;
    }
    let (mut line, mut area) = (String::new(), String::new());
    for stretch in points.split(|(_, value)| value.is_none()) {
        let stretch: Vec<_> = stretch.iter().filter_map(placed).collect();
        let (Some((first, _)), Some((last, _))) = (stretch.first(), stretch.last()) else { continue };
        let mut path = String::new();
        for (index, (at, value)) in stretch.iter().enumerate() {
            let _ = write!(path, "{}{at:.1} {value:.1}", if index == 0 { 'M' } else { 'L' });
        }
        if stretch.len() == 1 {
            path.push_str("h0.1");
        }
        let _ = write!(area, "{path}L{last:.1} {bottom}L{first:.1} {bottom}Z", bottom = HEIGHT - BOTTOM);
        line.push_str(&path);
    }
    if *style == Style::Area {
        let _ = write!(out, "<path class=\"{class} area\" d=\"{area}\"/>");
    }
    let _ = write!(out, "<path class=\"{class} line\" d=\"{line}\"/>");
}

/// Places values between two ends of the drawing.
struct Spread {
    scale: Scale,
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Spread {
    fn new(scale: Scale, values: impl Iterator<Item = f64>, top_min: f64, from: f64, to: f64) -> Self {
        let (low, high) = values.fold((f64::INFINITY, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
        let high = high.max(top_min);
        let (low, high) = match scale {
            Scale::Linear | Scale::Whole if high > 0.0 => (0.0, high),
            Scale::Linear | Scale::Whole => (0.0, 1.0),
            Scale::Log if high > 0.0 => {
                // To the next of 1, 2, 5 on either side.
                let low = step_down(low.max(high / 1e9));
                (low, step_up(high).max(low * 2.0))
            }
            Scale::Log => (1.0, 10.0),
        };
        Self { scale, low, high, from, to }
    }

    fn place(&self, value: f64) -> f64 {
        let part = match self.scale {
            Scale::Linear | Scale::Whole => (value - self.low) / (self.high - self.low),
            Scale::Log => (value.max(self.low) / self.low).log10() / (self.high / self.low).log10(),
        };
        self.from + part.clamp(0.0, 1.0) * (self.to - self.from)
    }

    fn ticks(&self) -> Vec<f64> {
        match self.scale {
            Scale::Linear | Scale::Whole => {
                let step = if self.scale == Scale::Whole {
                    step_up(self.high / WHOLE_TICKS).max(1.0)
                } else {
                    step_up(self.high / TICKS)
                };
                let count = (self.high / step * 1.000_001) as u32;
                (0..=count).map(|index| f64::from(index) * step).collect()
            }
            Scale::Log => {
                let decades = (self.high / self.low).log10();
                let digits: &[f64] = if decades <= 2.0 { &[1.0, 2.0, 5.0] } else { &[1.0] };
                let (first, last) = (self.low.log10().floor() as i32, self.high.log10().ceil() as i32);
                let all = (first..=last).flat_map(|power| digits.iter().map(move |digit| digit * 10_f64.powi(power)));
                all.filter(|tick| (self.low * 0.999..=self.high * 1.001).contains(tick)).collect()
            }
        }
    }
}

/// The smallest of …, 1, 2, 5, 10, … that is not below `value`.
fn step_up(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0]
        .map(|digit| digit * power)
        .into_iter()
        .find(|step| *step >= value * 0.999_999)
        .unwrap_or(10.0 * power)
}

/// The largest of …, 1, 2, 5, 10, … that is not above `value`.
fn step_down(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    [5.0, 2.0, 1.0].map(|digit| digit * power).into_iter().find(|step| *step <= value * 1.000_001).unwrap_or(power)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plot(scale: Scale, points: Vec<(f64, Option<f64>)>) -> String {
        let axis = |scale| Axis { name: "<time>", scale, label: |tick| tick.to_string() };
        let notes = points.iter().map(|(x, _)| (*x, "<note>".to_owned())).collect();
        let series = vec![Series { name: "values", class: "one", style: Style::Area, points }];
        let plot = Plot { title: "A & B", x: axis(Scale::Linear), y: axis(scale), y_top_min: 0.0, series, notes };
        plot.draw()
    }

    #[test]
    fn text_is_escaped() {
        let svg = plot(Scale::Linear, vec![(0.0, Some(1.0)), (1.0, Some(2.0))]);
        assert!(svg.contains("A &amp; B") && svg.contains("&lt;time&gt;") && svg.contains("&lt;note&gt;"));
    }

    #[test]
    fn a_missing_value_interrupts_the_line() {
        let svg = plot(Scale::Linear, vec![(0.0, Some(1.0)), (1.0, Some(1.0)), (2.0, None), (3.0, Some(1.0))]);
        let line = svg.split("class=\"one line\" d=\"").nth(1).unwrap().split('"').next().unwrap();
        assert_eq!(line.matches('M').count(), 2, "{line}");
    }

    #[test]
    fn ticks_are_round_numbers() {
        let ticks = |scale, high| Spread::new(scale, [1.5, high].into_iter(), 0.0, 0.0, 1.0).ticks();
        assert_eq!(ticks(Scale::Linear, 9.7), [0.0, 2.0, 4.0, 6.0, 8.0]);
        assert_eq!(ticks(Scale::Log, 45.0), [1.0, 2.0, 5.0, 10.0, 20.0, 50.0]);
        assert_eq!(ticks(Scale::Log, 4500.0), [1.0, 10.0, 100.0, 1000.0]);
    }

    proptest! {
        #[test]
        fn everything_is_drawn_within_the_plot(values in prop::collection::vec(prop::option::of(0.0_f64..1e12), 0..50)) {
            for scale in [Scale::Linear, Scale::Log] {
                let points = values.iter().enumerate().map(|(x, y)| (x as f64, *y)).collect();
                let svg = plot(scale, points);
                prop_assert!(!svg.contains("NaN") && !svg.contains("inf"), "{}", svg);
                let spread = Spread::new(scale, values.iter().filter_map(|y| *y), 0.0, HEIGHT - BOTTOM, TOP);
                for value in values.iter().filter_map(|y| *y) {
                    prop_assert!((TOP..=HEIGHT - BOTTOM).contains(&spread.place(value)));
                }
                prop_assert!(spread.ticks().len() <= 16);
            }
        }
    }
}
