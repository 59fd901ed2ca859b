//! Numbers as they are printed.

/// Middle and ends of what was measured several times.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The middle.
    pub median: f64,
    least: f64,
    most: f64,
}

impl Spread {
    /// Of at least one value.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Spread> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let upper = *sorted.get(middle)?;
        // Of an even number, halfway between the two in the middle.
        let median = if sorted.len() % 2 == 1 { upper } else { (sorted[middle - 1] + upper) / 2.0 };
        Some(Spread { median, least: *sorted.first()?, most: *sorted.last()? })
    }

    /// `median (least–most)`, each with so many decimals; the median alone where nothing else is to be seen.
    pub fn show(self, decimals: usize) -> String {
        let [median, least, most] = [self.median, self.least, self.most].map(|value| number(value, decimals));
        if least == most { median } else { format!("{median} ({least}–{most})") }
    }
}

/// A number with its digits in threes.
pub fn number(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    let (whole, fraction) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut grouped = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped + fraction
}

/// A Markdown table: the first column is text, the others are numbers. A row that is shorter is filled up.
pub fn markdown(head: &[&str], rows: &[Vec<String>]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let mut text = line(&head.iter().map(|&cell| cell.into()).collect::<Vec<_>>());
    text += &line(&(0..head.len()).map(|at| if at == 0 { "---" } else { "---:" }.into()).collect::<Vec<_>>());
    for row in rows {
        let mut row = row.clone();
        row.resize(head.len(), String::new());
        text += &line(&row);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Some(Spread { median: 2.0, least: 1.0, most: 3.0 }));
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 3.0]), Some(Spread { median: 2.5, least: 1.0, most: 4.0 }));
        assert_eq!(Spread::of([7.0]), Some(Spread { median: 7.0, least: 7.0, most: 7.0 }));
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn a_spread_shows_its_ends_where_they_differ() {
        assert_eq!(Spread::of([2.0, 1.0, 3.0]).unwrap().show(1), "2.0 (1.0–3.0)");
        assert_eq!(Spread::of([2.001, 2.0, 2.002]).unwrap().show(2), "2.00");
    }

    #[test]
    fn digits_stand_in_threes() {
        assert_eq!(number(0.0, 0), "0");
        assert_eq!(number(999.0, 0), "999");
        assert_eq!(number(1_000.0, 0), "1,000");
        assert_eq!(number(1_234_567.891, 2), "1,234,567.89");
    }

    #[test]
    fn a_table_has_a_rule_and_full_rows() {
        let rows = [vec!["a".into(), "1".into()], vec!["b".into()]];
        assert_eq!(markdown(&["name", "n"], &rows), "| name | n |\n| --- | ---: |\n| a | 1 |\n| b |  |\n");
    }
}
