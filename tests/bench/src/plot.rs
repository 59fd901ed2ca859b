//! The boots as a picture: a bar for each node, a part for each stretch of its way to the first pod.

use anyhow::{Result, anyhow};
use plotters::prelude::*;

/// Picture, bar, and what is left for names, in pixels.
const SIZE: (u32, u32) = (960, 60);
const BAR: u32 = 44;
const NAMES: u32 = 190;

/// A bar: the node's name, and when each stretch ends, in seconds.
pub type Bar = (String, Vec<f64>);

/// An SVG; `stretches` are named in their order.
pub fn draw(stretches: &[&str], bars: &[Bar]) -> Result<String> {
    let mut text = String::new();
    let height = SIZE.1 + BAR * u32::try_from(bars.len())?;
    let last = bars.iter().flat_map(|(_, ends)| ends).copied().fold(1.0, f64::max).ceil();
    paint(&mut text, (SIZE.0, height), stretches, bars, last).map_err(|error| anyhow!("plot: {error}"))?;
    Ok(text)
}

fn paint(
    text: &mut String,
    size: (u32, u32),
    stretches: &[&str],
    bars: &[Bar],
    last: f64,
) -> Result<(), Box<dyn std::error::Error>> {
    let area = SVGBackend::with_string(text, size).into_drawing_area();
    area.fill(&WHITE)?;
    let rows = 0.0..bars.len() as f64;
    // Rows from above, as in the table.
    let mut chart = ChartBuilder::on(&area)
        .margin(12)
        .set_label_area_size(LabelAreaPosition::Left, NAMES)
        .set_label_area_size(LabelAreaPosition::Bottom, 36)
        .build_cartesian_2d(0.0..last, rows.end..rows.start)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .light_line_style(WHITE)
        .x_desc("seconds from the kernel's hand-over")
        .draw()?;
    for (at, stretch) in stretches.iter().enumerate() {
        let colour = Palette99::pick(at).filled();
        let parts = bars.iter().enumerate().map(|(row, (_, ends))| {
            let begin = if at == 0 { 0.0 } else { ends[at - 1] };
            let row = row as f64;
            Rectangle::new([(begin, row + 0.2), (ends[at], row + 0.8)], colour)
        });
        chart
            .draw_series(parts)?
            .label(*stretch)
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], colour));
    }
    let style = ("sans-serif", 15).into_font().color(&BLACK);
    for (row, (name, _)) in (0u32..).zip(bars) {
        let (_, y) = chart.backend_coord(&(0.0, f64::from(row) + 0.35));
        area.draw_text(name, &style, (12, y))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK)
        .draw()?;
    area.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_node_and_each_stretch_is_in_the_picture() {
        let bars = [("one".to_owned(), vec![1.0, 2.5]), ("other".to_owned(), vec![2.0, 7.0])];
        let svg = draw(&["begun", "done"], &bars).unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        for name in ["one", "other", "begun", "done"] {
            assert!(svg.contains(&format!("\n{name}\n")), "{name}: {svg}");
        }
        // Four parts, two of the legend's, and the ground.
        assert!(svg.matches("<rect").count() >= 7);
    }
}
