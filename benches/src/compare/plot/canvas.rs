//! The marks plots are made of, written as SVG. Lengths are pixels, from the upper left.

use std::fmt::Write;

/// Width of a character of ordinary text, generously: the reader's fonts are unknown.
pub const GLYPH_WIDTH: f64 = 8.2;

/// Inline, because a picture in a README cannot load anything.
const CSS: &str = "text{font-family:-apple-system,BlinkMacSystemFont,'Segoe UI','Noto Sans',Helvetica,Arial,\
sans-serif;font-size:14px;fill:#1f2328}\
.title{font-size:20px;font-weight:600}.strong,.ours{font-weight:600}.ours{fill:#0550ae}.muted{fill:#59636e}";
const CARD: &str = "#ffffff";
const BORDER: &str = "#d1d9e0";
const GRID: &str = "#e6eaef";
const INK: &str = "#1f2328";
const REFERENCE: &str = "#59636e";
const OURS: &str = "#2f81f7";
const THEIRS: &str = "#afb8c1";
const OURS_TRACK: &str = "#a5cdff";
const THEIRS_TRACK: &str = "#dde3e9";

/// A point, or a size.
type Pair = (f64, f64);

/// How text looks.
#[derive(Clone, Copy, Debug)]
pub enum Style {
    Plain,
    Strong,
    Ours,
    Muted,
}

/// Which part of a text stands at its point.
#[derive(Clone, Copy, Debug)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

/// A picture being drawn.
pub struct Canvas {
    svg: String,
}

impl Canvas {
    pub fn new(width: f64, height: f64) -> Self {
        let mut canvas = Self { svg: String::new() };
        canvas.push(format_args!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img"><style>{CSS}</style>"#
        ));
        let (width, height) = (width - 1.0, height - 1.0);
        canvas.push(format_args!(
            r#"<rect x="0.5" y="0.5" width="{width}" height="{height}" rx="12" fill="{CARD}" stroke="{BORDER}"/>"#
        ));
        canvas
    }

    /// What it is about, at the top.
    pub fn title(&mut self, title: &str, subtitle: &str) {
        let title = escaped(title);
        self.push(format_args!(r#"<title>{title}</title><text class="title" x="32" y="44">{title}</text>"#));
        self.text((32.0, 68.0), Anchor::Start, &[(Style::Muted, subtitle)]);
    }

    /// One line of text in pieces, a blank between them; `at` is on its base line.
    pub fn text(&mut self, at: Pair, anchor: Anchor, pieces: &[(Style, &str)]) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let (x, y) = at;
        self.push(format_args!(r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">"#));
        let pieces = pieces.iter().filter(|(_, piece)| !piece.is_empty());
        for ((style, piece), dx) in pieces.zip([0].into_iter().chain(std::iter::repeat(5))) {
            let class = match style {
                Style::Plain => "plain",
                Style::Strong => "strong",
                Style::Ours => "ours",
                Style::Muted => "muted",
            };
            self.push(format_args!(r#"<tspan class="{class}" dx="{dx}">{}</tspan>"#, escaped(piece)));
        }
        self.push(format_args!("</text>"));
    }

    /// A bar, from its upper left.
    pub fn bar(&mut self, at: Pair, size: Pair, is_ours: bool) {
        let ((x, y), (width, height)) = (at, size);
        let fill = if is_ours { OURS } else { THEIRS };
        self.push(format_args!(
            r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" rx="2" fill="{fill}"/>"#
        ));
    }

    /// The least and the most, along either axis.
    pub fn whisker(&mut self, from: Pair, to: Pair) {
        const CAP: f64 = 4.0;
        let (dx, dy) = if from.1 == to.1 { (0.0, CAP) } else { (CAP, 0.0) };
        self.line(from, to, INK, r#"stroke-width="1.5""#);
        for (x, y) in [from, to] {
            self.line((x - dx, y - dy), (x + dx, y + dy), INK, r#"stroke-width="1.5""#);
        }
    }

    /// A reference line.
    pub fn dashes(&mut self, from: Pair, to: Pair) {
        self.line(from, to, REFERENCE, r#"stroke-width="1.5" stroke-dasharray="4 4""#);
    }

    /// A line of a grid, or an axis.
    pub fn hairline(&mut self, from: Pair, to: Pair) {
        self.line(from, to, GRID, r#"stroke-width="1""#);
    }

    /// What joins dots.
    pub fn track(&mut self, from: Pair, to: Pair, is_ours: bool) {
        let stroke = if is_ours { OURS_TRACK } else { THEIRS_TRACK };
        self.line(from, to, stroke, r#"stroke-width="6" stroke-linecap="round""#);
    }

    pub fn dot(&mut self, at: Pair, is_ours: bool) {
        let ((x, y), fill) = (at, if is_ours { OURS } else { REFERENCE });
        self.push(format_args!(
            r#"<circle cx="{x:.1}" cy="{y:.1}" r="6" fill="{fill}" stroke="{CARD}" stroke-width="1.5"/>"#
        ));
    }

    pub fn finish(mut self) -> String {
        self.push(format_args!("</svg>\n"));
        self.svg
    }

    fn line(&mut self, from: Pair, to: Pair, stroke: &str, style: &str) {
        let ((x1, y1), (x2, y2)) = (from, to);
        self.push(format_args!(
            r#"<line x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}" stroke="{stroke}" {style}/>"#
        ));
    }

    fn push(&mut self, piece: std::fmt::Arguments<'_>) {
        self.svg.write_fmt(piece).expect("a string takes all");
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
