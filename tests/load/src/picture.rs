//! Plot of a latency distribution. The scale of percentiles expands towards 100 %, and the scale of milliseconds is
//! logarithmic.

use std::fmt::Write as _;

use crate::report::Report;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 420.0;
/// Edges of the plot area, in pixels.
const LEFT: f64 = 72.0;
const RIGHT: f64 = WIDTH - 112.0;
const TOP: f64 = 70.0;
const BOTTOM: f64 = HEIGHT - 62.0;

const STYLE: &str = "
  .page { fill: #ffffff } text { fill: #24292f; font: 13px system-ui, sans-serif } .title { font-size: 17px; font-weight: 600 }
  .small { fill: #57606a; font-size: 12px } .grid { stroke: #d8dee4; stroke-width: 1 } .axis { stroke: #57606a; stroke-width: 1 }
  .curve { fill: none; stroke-width: 2.2; stroke-linejoin: round } .c0 { stroke: #0a69c7 } .c1 { stroke: #bc4c00 }
  text.n0 { fill: #0a69c7 } text.n1 { fill: #bc4c00 }
  @media (prefers-color-scheme: dark) {
    .page { fill: #0d1117 } text { fill: #e6edf3 } .small { fill: #9198a1 } .grid { stroke: #2b323b } .axis { stroke: #9198a1 }
    .c0 { stroke: #58a6ff } .c1 { stroke: #f0883e } text.n0 { fill: #58a6ff } text.n1 { fill: #f0883e }
  }
";

/// Draws the latencies of a report as SVG. If the report has no latencies, the SVG contains a note instead of a plot.
pub(crate) fn draw(report: &Report) -> String {
    let mut svg = String::new();
    // Writing to a `String` cannot fail.
    let _ = write_picture(report, &mut svg);
    svg
}

fn write_picture(report: &Report, svg: &mut String) -> std::fmt::Result {
    let plural = if report.nodes == 1 { "" } else { "s" };
    let title = format!("Latency: {} on {} node{plural}", report.scenario, report.nodes);
    let under = format!("{}; {:.0} per second over {:.0} s", report.settings_text(), report.per_second, report.span_s);
    writeln!(
        svg,
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img">"#
    )?;
    writeln!(svg, "<title>{}</title>\n<style>{STYLE}</style>", escape(&title))?;
    writeln!(svg, r#"<rect class="page" width="{WIDTH}" height="{HEIGHT}"/>"#)?;
    writeln!(svg, r#"<text class="title" x="{LEFT}" y="30">{}</text>"#, escape(&title))?;
    writeln!(svg, r#"<text class="small" x="{LEFT}" y="50">{}</text>"#, escape(&under))?;
    match Scales::of(report) {
        None => writeln!(svg, r#"<text x="{LEFT}" y="{}">no latencies were measured</text>"#, TOP + 40.0)?,
        Some(scales) => {
            scales.write_grid(svg)?;
            write_curves(report, &scales, svg)?;
        }
    }
    writeln!(svg, "</svg>")
}

/// Scales that map percentiles and milliseconds to coordinates.
struct Scales {
    /// Number of nines at the right edge of the plot.
    nines: f64,
    /// Logarithms of the lowest and the highest latency of the scale, in milliseconds.
    low: f64,
    high: f64,
}

impl Scales {
    fn of(report: &Report) -> Option<Self> {
        let points = || report.latency.iter().flat_map(|distribution| &distribution.curve).filter(|(_, ms)| *ms > 0.0);
        let nines = points().map(|(percentile, _)| nines(*percentile)).fold(f64::NAN, f64::max).max(1.0);
        let low = points().map(|(_, ms)| ms.log10()).fold(f64::NAN, f64::min);
        let high = points().map(|(_, ms)| ms.log10()).fold(f64::NAN, f64::max);
        // Extends the range to the next values 1, 2 or 5 times a power of ten. The plot is thus never flat.
        let low = steps().map(|(_, log)| log).take_while(|log| *log <= low).last()?;
        let high = steps().map(|(_, log)| log).find(|log| *log >= high && *log > low + 0.5)?;
        Some(Self { nines, low, high })
    }

    fn x(&self, percentile: f64) -> f64 {
        LEFT + (RIGHT - LEFT) * nines(percentile) / self.nines
    }

    fn y(&self, ms: f64) -> f64 {
        BOTTOM - (BOTTOM - TOP) * (ms.log10() - self.low) / (self.high - self.low)
    }

    fn write_grid(&self, svg: &mut String) -> std::fmt::Result {
        let within = |log: &f64| (self.low - 1e-9..=self.high + 1e-9).contains(log);
        for (ms, _) in steps().filter(|(_, log)| within(log)) {
            let y = self.y(ms);
            writeln!(svg, r#"<line class="grid" x1="{LEFT}" y1="{y:.1}" x2="{RIGHT}" y2="{y:.1}"/>"#)?;
            let decimals = (-ms.log10().floor()).max(0.0) as usize;
            writeln!(
                svg,
                r#"<text class="small" x="{:.1}" y="{:.1}" text-anchor="end">{ms:.decimals$}</text>"#,
                LEFT - 8.0,
                y + 4.0
            )?;
        }
        for (percentile, label) in [
            (0.0, "0 %"),
            (50.0, "50 %"),
            (90.0, "90 %"),
            (99.0, "99 %"),
            (99.9, "99.9 %"),
            (99.99, "99.99 %"),
            (99.999, "99.999 %"),
        ] {
            if nines(percentile) > self.nines + 1e-9 {
                break;
            }
            let x = self.x(percentile);
            writeln!(svg, r#"<line class="grid" x1="{x:.1}" y1="{TOP}" x2="{x:.1}" y2="{BOTTOM}"/>"#)?;
            writeln!(
                svg,
                r#"<text class="small" x="{x:.1}" y="{:.1}" text-anchor="middle">{label}</text>"#,
                BOTTOM + 18.0
            )?;
        }
        writeln!(svg, r#"<path class="axis" fill="none" d="M{LEFT} {TOP}V{BOTTOM}H{RIGHT}"/>"#)?;
        writeln!(
            svg,
            r#"<text x="{:.1}" y="{:.1}" text-anchor="middle">percentile: so many were at least as fast</text>"#,
            (LEFT + RIGHT) / 2.0,
            BOTTOM + 44.0
        )?;
        let middle = (TOP + BOTTOM) / 2.0;
        writeln!(
            svg,
            r#"<text x="22" y="{middle:.1}" text-anchor="middle" transform="rotate(-90 22 {middle:.1})">milliseconds</text>"#
        )
    }
}

fn write_curves(report: &Report, scales: &Scales, svg: &mut String) -> std::fmt::Result {
    let mut taken: Vec<f64> = Vec::new();
    for (at, distribution) in report.latency.iter().enumerate() {
        let colour = at % 2;
        let mut path = String::new();
        for (percentile, ms) in distribution.curve.iter().filter(|(_, ms)| *ms > 0.0) {
            let command = if path.is_empty() { 'M' } else { 'L' };
            write!(path, "{command}{:.1} {:.1}", scales.x(*percentile), scales.y(*ms))?;
        }
        let Some((percentile, ms)) = distribution.curve.last().filter(|(_, ms)| *ms > 0.0) else { continue };
        writeln!(svg, r#"<path class="curve c{colour}" d="{path}"/>"#)?;
        // Each label is placed at the end of its curve, and is moved down if it would overlap another label.
        let mut y = scales.y(*ms) + 4.0;
        if taken.iter().any(|other| (other - y).abs() < 15.0) {
            y = taken.iter().fold(y, |y, other| f64::max(y, *other)) + 15.0;
        }
        taken.push(y);
        let x = scales.x(*percentile) + 8.0;
        writeln!(svg, r#"<text class="n{colour}" x="{x:.1}" y="{y:.1}">{}</text>"#, escape(&distribution.name))?;
    }
    Ok(())
}

/// Returns the number of nines of a percentile: 0 for 0 %, 1 for 90 %, 2 for 99 %.
fn nines(percentile: f64) -> f64 {
    -(1.0 - percentile / 100.0).log10()
}

/// Returns the grid lines in milliseconds (0.001, 0.002, 0.005, 0.01 … 500,000) with their logarithms.
fn steps() -> impl Iterator<Item = (f64, f64)> {
    (-4..6).flat_map(|decade| [1.0, 2.0, 5.0].map(|step| step * 10_f64.powi(decade))).map(|ms| (ms, ms.log10()))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::check::Verdict;
    use crate::latency::{Distribution, Latencies};
    use crate::report::{Generator, Scenario};

    fn report(latency: Vec<Distribution>) -> Report {
        Report {
            scenario: Scenario::Paced,
            nodes: 2,
            settings: BTreeMap::from([("rate".to_owned(), 1000.0)]),
            span_s: 10.0,
            messages: 0,
            deliveries: 0,
            units: 0,
            per_second: 1000.0,
            latency,
            processes: Vec::new(),
            generator: Generator::default(),
            others_cores: None,
            verdict: Verdict::default(),
            closed: BTreeMap::new(),
            faults: Vec::new(),
        }
    }

    fn latencies(of_ms: impl Iterator<Item = u64>) -> Latencies {
        let mut latencies = Latencies::new();
        of_ms.for_each(|ms| latencies.record(ms * 1_000_000));
        latencies
    }

    /// Checks that all elements are closed in order, and returns the name of each element.
    fn elements(svg: &str) -> Vec<String> {
        let (mut open, mut seen) = (Vec::new(), Vec::new());
        for tag in svg.split('<').skip(1) {
            let (tag, text) = tag.split_once('>').unwrap();
            assert!(!text.contains('>') && tag.matches('"').count() % 2 == 0, "{tag}");
            let name = tag.trim_matches('/').split_whitespace().next().unwrap().to_owned();
            if tag.starts_with('/') {
                assert_eq!(open.pop().as_ref(), Some(&name));
            } else {
                seen.push(name.clone());
                if !tag.ends_with('/') {
                    open.push(name);
                }
            }
        }
        assert!(open.is_empty(), "{open:?}");
        seen
    }

    #[test]
    fn plot_is_well_formed_and_has_a_curve_per_distribution() {
        let distribution = ["acknowledged", "a <b> & c"].map(|name| latencies(1..=5000).distribution(name));
        let svg = draw(&report(distribution.into()));
        assert_eq!(elements(&svg).iter().filter(|name| *name == "path").count(), 3, "{svg}");
        assert!(svg.contains("a &lt;b&gt; &amp; c") && svg.contains("prefers-color-scheme: dark"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }

    #[test]
    fn constant_latency_has_a_plot() {
        let svg = draw(&report(vec![latencies(std::iter::repeat_n(1, 100)).distribution("x")]));
        elements(&svg);
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn plot_without_latencies_states_so() {
        for nothing in [Vec::new(), vec![Latencies::new().distribution("x")]] {
            let svg = draw(&report(nothing));
            elements(&svg);
            assert!(svg.contains("no latencies were measured"), "{svg}");
        }
    }
}
