//! Coloured cells in columns.

/// What a piece of text says by its colour; the words alone must do, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Tone {
    #[default]
    Plain,
    Good,
    Warn,
    Bad,
    Dim,
    Head,
}

impl Tone {
    const fn escape(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Good => "\x1b[1;32m",
            Self::Warn => "\x1b[33m",
            Self::Bad => "\x1b[1;31m",
            Self::Dim => "\x1b[2m",
            Self::Head => "\x1b[1m",
        }
    }

    /// `text` in this tone.
    pub(super) fn paint(self, text: &str, color: bool) -> String {
        if !color || self == Self::Plain || text.is_empty() {
            return text.to_owned();
        }
        format!("{}{text}\x1b[0m", self.escape())
    }
}

/// A line of a cell.
#[derive(Clone, Debug, Default)]
pub(super) struct Line {
    pub(super) text: String,
    pub(super) tone: Tone,
}

impl Line {
    pub(super) fn new(text: impl Into<String>, tone: Tone) -> Self {
        Self { text: clean(&text.into()), tone }
    }
}

/// A cell: its lines.
pub(super) type Cell = Vec<Line>;

/// A cell of one line.
pub(super) fn cell(text: impl Into<String>, tone: Tone) -> Cell {
    vec![Line::new(text, tone)]
}

/// A row of a table.
#[derive(Clone, Debug, Default)]
pub(super) struct Row {
    pub(super) cells: Vec<Cell>,
    /// Prose of its own: the table's last column where there is room, else below the row.
    pub(super) prose: Option<(&'static str, String)>,
    /// More lines below.
    pub(super) below: Vec<Line>,
}

const GAP: usize = 2;
const INDENT: usize = 4;
/// A prose column narrower than this is no pleasure to read.
const LEAST_PROSE: usize = 24;

/// Lays out a table under `heads`.
pub(super) fn table(heads: &[&str], rows: &[Row], width: usize, color: bool) -> String {
    let columns: Vec<usize> = heads
        .iter()
        .enumerate()
        .map(|(i, head)| {
            let cells = rows.iter().filter_map(|r| r.cells.get(i)).flatten();
            cells.map(|l| length(&l.text)).chain([head.len()]).max().unwrap_or(0)
        })
        .collect();
    let used: usize = columns.iter().map(|c| c + GAP).sum();
    let prose = rows.iter().find_map(|r| r.prose.as_ref()).map(|(head, _)| *head);
    let room = width.saturating_sub(used);
    let has_column = prose.is_some() && room >= LEAST_PROSE;
    let mut out = String::new();
    let title = heads.iter().copied().chain(prose.filter(|_| has_column));
    let title: Vec<Cell> = title.map(|h| cell(h, Tone::Head)).collect();
    put_row(&mut out, &title, &columns, color);
    for row in rows {
        let mut cells = row.cells.clone();
        if let Some((_, text)) = row.prose.as_ref().filter(|_| has_column) {
            cells.push(wrap(text, room).into_iter().map(|t| Line::new(t, Tone::Plain)).collect());
        }
        put_row(&mut out, &cells, &columns, color);
        if let Some((head, text)) = row.prose.as_ref().filter(|_| !has_column) {
            put_below(
                &mut out,
                &format!("{}: {text}", head.to_lowercase()),
                Tone::Plain,
                width,
                color,
            );
        }
        for line in &row.below {
            put_below(&mut out, &line.text, line.tone, width, color);
        }
    }
    out
}

fn put_row(out: &mut String, cells: &[Cell], columns: &[usize], color: bool) {
    let height = cells.iter().map(Vec::len).max().unwrap_or(0);
    for i in 0..height {
        let mut padding = 0;
        for (n, cell) in cells.iter().enumerate() {
            let line = cell.get(i).filter(|l| !l.text.is_empty());
            if let Some(line) = line {
                out.push_str(&" ".repeat(padding));
                out.push_str(&line.tone.paint(&line.text, color));
                padding = 0;
            }
            let taken = line.map_or(0, |l| length(&l.text));
            padding += columns.get(n).map_or(0, |c| c.saturating_sub(taken) + GAP);
        }
        out.push('\n');
    }
}

fn put_below(out: &mut String, text: &str, tone: Tone, width: usize, color: bool) {
    out.push_str(&indented(text, tone, INDENT, width, color));
}

/// A paragraph, wrapped and indented.
pub(super) fn indented(text: &str, tone: Tone, indent: usize, width: usize, color: bool) -> String {
    let room = width.saturating_sub(indent).max(LEAST_PROSE);
    let margin = " ".repeat(indent);
    let lines = wrap(&clean(text), room);
    let mut out = String::new();
    for line in lines {
        out.extend([&*margin, &*tone.paint(&line, color), "\n"]);
    }
    out
}

/// Breaks at spaces; a longer word stays whole, so that it can be copied.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is one from the start");
        if line.is_empty() {
            line.push_str(word);
        } else if length(line) + 1 + length(word) <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

/// Names and reasons may come from elsewhere: none of them moves the cursor.
pub(super) fn clean(text: &str) -> String {
    text.replace(|c: char| c.is_control(), " ")
}

fn length(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_wrapped_and_long_ones_stay_whole() {
        assert_eq!(wrap("a bb ccc", 4), ["a bb", "ccc"]);
        assert_eq!(wrap("see docs/operations.md#x", 5), ["see", "docs/operations.md#x"]);
        assert_eq!(wrap("", 5), [""]);
    }

    #[test]
    fn no_escape_gets_through() {
        assert_eq!(cell("a\x1b[2J\nb", Tone::Plain)[0].text, "a [2J b");
    }

    #[test]
    fn prose_goes_below_where_it_is_narrow() {
        let row = Row {
            cells: vec![cell("postgres", Tone::Plain), cell("Active", Tone::Good)],
            prose: Some(("WHY", "no advert from hap1 for 361 ms".into())),
            below: vec![],
        };
        assert_eq!(
            table(&["GROUP", "ROLE"], std::slice::from_ref(&row), 60, false),
            "GROUP     ROLE    WHY\npostgres  Active  no advert from hap1 for 361 ms\n"
        );
        assert_eq!(
            table(&["GROUP", "ROLE"], &[row], 36, true),
            "\x1b[1mGROUP\x1b[0m     \x1b[1mROLE\x1b[0m\n\
             postgres  \x1b[1;32mActive\x1b[0m\n    why: no advert from hap1 for 361\n    ms\n"
        );
    }
}
