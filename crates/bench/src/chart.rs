//! The chart that draws curves as an SVG picture.

use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use plotters::drawing::DrawingAreaErrorKind;
use plotters::prelude::*;

use super::error::BenchError;

const SIZE: (u32, u32) = (900, 540);

/// The width beside a plot for the names of its lines.
const LEGEND_WIDTH: u32 = 250;

/// Colours that people with colour blindness can distinguish (M. Okabe and K. Ito), and four more
/// for pictures with many lines (by P. Tol).
const COLOURS: [RGBColor; 11] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
    RGBColor(136, 34, 85),
    RGBColor(153, 153, 51),
    RGBColor(51, 34, 136),
    RGBColor(170, 170, 170),
];

/// A named curve.
#[derive(Clone, Debug)]
pub struct Line {
    /// The name in the legend.
    pub name: String,
    /// Points, from left to right. Points that are not finite are left out.
    pub points: Vec<(f64, f64)>,
}

/// A picture of curves.
#[derive(Clone, Debug)]
pub struct Chart {
    /// The text above the picture.
    pub title: String,
    /// The label of the horizontal axis.
    pub x_title: String,
    /// Names of whole numbers on the horizontal axis. Empty: the axis shows the numbers.
    pub x_names: Vec<String>,
    /// The label of the vertical axis, with its unit.
    pub y_title: String,
    /// Whether the vertical axis is logarithmic: then it shows only values above 0.
    pub y_is_logarithmic: bool,
    /// The curves.
    pub lines: Vec<Line>,
}

impl Chart {
    /// The picture, as the text of an SVG file.
    pub fn svg(&self) -> Result<String, BenchError> {
        let points = || {
            self.lines
                .iter()
                .flat_map(|line| line.points.iter().copied())
        };
        let shown = || points().filter(|(x, y)| self.can_show(*x, *y));
        if shown().next().is_none() {
            return Err(BenchError::Option("There is nothing to draw.".to_owned()));
        }
        let least = |of: fn((f64, f64)) -> f64| shown().map(of).fold(f64::INFINITY, f64::min);
        let most = |of: fn((f64, f64)) -> f64| shown().map(of).fold(f64::NEG_INFINITY, f64::max);
        let (left, right) = (least(|point| point.0), most(|point| point.0));
        let (bottom, top) = (least(|point| point.1), most(|point| point.1));
        let x = left.min(0.0)..if right > left { right } else { left + 1.0 };
        let mut svg = String::new();
        let drawn = if self.y_is_logarithmic {
            self.draw(&mut svg, x, (bottom / 1.5..top * 1.5).log_scale())
        } else {
            self.draw(&mut svg, x, 0.0..(top * 1.1).max(f64::MIN_POSITIVE))
        };
        drawn.map_err(|error| {
            BenchError::Option(format!("The picture cannot be drawn: {error}."))
        })?;
        Ok(svg)
    }

    fn can_show(&self, x: f64, y: f64) -> bool {
        x.is_finite() && y.is_finite() && (y > 0.0 || !self.y_is_logarithmic)
    }

    fn draw<Y>(
        &self,
        svg: &mut String,
        x: std::ops::Range<f64>,
        y: Y,
    ) -> Result<(), Box<dyn std::error::Error>>
    where
        Y: AsRangedCoord<Value = f64>,
        Y::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
    {
        let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&root)
            .caption(&self.title, ("sans-serif", 20))
            .margin(16)
            .margin_right(if self.is_crowded() { LEGEND_WIDTH } else { 16 })
            .x_label_area_size(48)
            .y_label_area_size(84)
            .build_cartesian_2d(x, y)?;
        chart
            .configure_mesh()
            .x_desc(&self.x_title)
            .y_desc(&self.y_title)
            .x_label_formatter(&|x| self.x_name(*x))
            .y_label_formatter(&|y| figure(*y))
            .light_line_style(WHITE.mix(0.0))
            .draw()?;
        for (number, line) in self.lines.iter().enumerate() {
            let colour = COLOURS[number % COLOURS.len()];
            let points = line
                .points
                .iter()
                .copied()
                .filter(|(x, y)| self.can_show(*x, *y));
            let dots = points.clone().map(|at| Circle::new(at, 3, colour.filled()));
            chart.draw_series(dots)?;
            chart
                .draw_series(LineSeries::new(points, colour.stroke_width(2)))?
                .label(&line.name)
                .legend(move |(x, y)| {
                    PathElement::new([(x, y), (x + 20, y)], colour.stroke_width(2))
                });
        }
        if self.is_crowded() {
            self.legend(&root)?;
        } else {
            chart
                .configure_series_labels()
                .position(SeriesLabelPosition::UpperLeft)
                .background_style(WHITE.mix(0.8))
                .border_style(BLACK.mix(0.3))
                .draw()?;
        }
        root.present()?;
        Ok(())
    }

    /// Whether there are too many lines for a legend in the plot, which would hide some of them.
    /// Then the legend is beside the plot.
    fn is_crowded(&self) -> bool {
        self.lines.len() > 4
    }

    /// Draws the names of the lines, beside the plot.
    fn legend<B>(
        &self,
        root: &DrawingArea<B, Shift>,
    ) -> Result<(), DrawingAreaErrorKind<B::ErrorType>>
    where
        B: DrawingBackend,
    {
        let left = (SIZE.0 - LEGEND_WIDTH) as i32 + 20;
        for (number, line) in self.lines.iter().enumerate() {
            let colour = COLOURS[number % COLOURS.len()];
            let middle = 56 + 20 * number as i32;
            let sample = [(left, middle), (left + 20, middle)];
            root.draw(&PathElement::new(sample, colour.stroke_width(2)))?;
            let name = line.name.as_str();
            root.draw(&Text::new(
                name,
                (left + 28, middle - 6),
                ("sans-serif", 12),
            ))?;
        }
        Ok(())
    }

    fn x_name(&self, x: f64) -> String {
        if (x - x.round()).abs() > 1e-6 || x < -1e-6 {
            return String::new();
        }
        if self.x_names.is_empty() {
            return figure(x);
        }
        self.x_names
            .get(x.round() as usize)
            .cloned()
            .unwrap_or_default()
    }
}

/// Formats a value with three significant digits.
fn figure(value: f64) -> String {
    match value.abs() {
        size if size >= 1e6 => format!("{:.3} M", value / 1e6),
        size if size >= 10.0 || value.fract() == 0.0 => format!("{value:.0}"),
        _ => format!("{value:.2}"),
    }
}
