//! Colours, bars and tables on a terminal.

use std::io::IsTerminal;

/// What the reader's screen can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paint {
    /// Colours: on a terminal, unless `NO_COLOR` is set.
    pub color: bool,
    /// Whether text that has not ended yet may be drawn over.
    pub terminal: bool,
    /// More than ASCII: where the locale says UTF-8.
    pub unicode: bool,
}

/// What a text means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// As it should be.
    Good,
    /// Not as it should be.
    Bad,
    /// Worth a look.
    Note,
    /// Less important than the rest.
    Dim,
    /// More important than the rest.
    Strong,
}

impl Paint {
    /// For standard output.
    pub fn of_stdout() -> Self {
        let set = |name: &str| std::env::var(name).is_ok_and(|v| !v.is_empty());
        let terminal = std::io::stdout().is_terminal();
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
            .iter()
            .find_map(|name| std::env::var(name).ok().filter(|v| !v.is_empty()));
        let unicode = locale.is_none_or(|l| l.to_lowercase().replace('-', "").contains("utf8"));
        Self { color: terminal && !set("NO_COLOR"), terminal, unicode }
    }

    /// `text` in `tone`.
    pub fn tone(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Good => "32",
            Tone::Bad => "31",
            Tone::Note => "33",
            Tone::Dim => "2",
            Tone::Strong => "1",
        };
        if self.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// A bar for `value`, `width` columns long at `full`.
    pub fn bar(self, value: f64, full: f64, width: u16) -> String {
        const PARTS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
        let share = if full > 0.0 { (value / full).clamp(0.0, 1.0) } else { 0.0 };
        let eighths = (share * f64::from(width) * 8.0).round();
        // At most eight times the width of a screen.
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 0 and 8 * u16::MAX"
        )]
        let eighths = eighths as usize;
        if self.unicode {
            let bar = "█".repeat(eighths / 8) + PARTS[eighths % 8];
            if bar.is_empty() { "▏".to_owned() } else { bar }
        } else {
            "#".repeat((eighths / 8).max(1))
        }
    }

    /// A line below a heading.
    pub fn rule(self, width: usize) -> String {
        self.tone(Tone::Dim, &if self.unicode { "─" } else { "-" }.repeat(width))
    }
}

/// `text` filled up to `width` columns on the right, counted in characters.
pub fn left(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(text.chars().count())))
}

/// `text` filled up to `width` columns on the left.
pub fn right(text: &str, width: usize) -> String {
    format!("{}{text}", " ".repeat(width.saturating_sub(text.chars().count())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_long_as_its_share() {
        let paint = Paint { color: false, terminal: false, unicode: true };
        assert_eq!(paint.bar(50.0, 100.0, 8), "████");
        assert_eq!(paint.bar(53.0, 100.0, 8), "████▎");
        assert_eq!(paint.bar(0.0, 100.0, 8), "▏");
        assert_eq!(paint.bar(500.0, 100.0, 3), "███");
        let ascii = Paint { unicode: false, ..paint };
        assert_eq!(
            (ascii.bar(50.0, 100.0, 8), ascii.bar(0.0, 0.0, 8)),
            ("####".into(), "#".into())
        );
    }
}
