//! What HAProxy says of its servers: the CSV of `show stat` (management.txt §9.1).

use std::borrow::Cow;

/// A server, as HAProxy sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// The backend that it is in.
    pub backend: String,
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: State,
}

/// What HAProxy knows of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// New clients are sent to it.
    Up,
    /// They are not: it fails its check, or is drained.
    Down,
    /// Somebody took it out of service.
    Maintenance,
    /// It was not checked yet, and counts as up until it was.
    Unchecked,
}

/// Why a text is not such a table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// HAProxy said something else; its first line.
    #[error("HAProxy says: {0}")]
    Other(String),
    /// It said nothing.
    #[error("HAProxy said nothing")]
    Nothing,
    /// A line has fewer fields than are needed.
    #[error("line {0} of HAProxy's answer is cut short")]
    Short(usize),
}

/// The servers of a table; lines of frontends, backends and listeners are left out.
///
/// # Errors
/// If it does not begin with the names of its fields, or is cut short.
pub fn servers(text: &str) -> Result<Vec<Server>, Error> {
    let mut lines = text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty());
    let (_, first) = lines.next().ok_or(Error::Nothing)?;
    let columns = first.strip_prefix("# ").and_then(Columns::of).ok_or_else(|| {
        let clean = first.chars().filter(|c| !c.is_control()).take(100);
        Error::Other(clean.collect())
    })?;
    let mut found = Vec::new();
    for (i, line) in lines {
        let fields = fields(line, columns.last());
        let field =
            |column: usize| fields.get(column).map(AsRef::as_ref).ok_or(Error::Short(i + 1));
        if field(columns.kind)? == SERVER {
            found.push(Server {
                backend: field(columns.backend)?.to_owned(),
                name: field(columns.name)?.to_owned(),
                state: state(field(columns.status)?, field(columns.check)?),
            });
        }
    }
    Ok(found)
}

/// The `type` of a server's line.
const SERVER: &str = "2";

/// Where what is needed stands.
struct Columns {
    backend: usize,
    name: usize,
    status: usize,
    kind: usize,
    check: usize,
}

impl Columns {
    fn of(header: &str) -> Option<Self> {
        let names: Vec<_> = header.split(',').collect();
        let column = |name: &str| names.iter().position(|n| *n == name);
        Some(Self {
            backend: column("pxname")?,
            name: column("svname")?,
            status: column("status")?,
            kind: column("type")?,
            check: column("check_status")?,
        })
    }

    /// The hindmost of them: of a hundred fields some forty are read.
    fn last(&self) -> usize {
        [self.backend, self.name, self.status, self.kind, self.check]
            .into_iter()
            .fold(0, usize::max)
    }
}

fn state(status: &str, check: &str) -> State {
    // A star says that a check is under way.
    let unchecked = check.trim_start_matches(['*', ' ']) == "INI";
    match status.split([' ', '(']).next().unwrap_or_default() {
        "MAINT" => State::Maintenance,
        "UP" if unchecked => State::Unchecked,
        // "no check": it has none, and counts as up for ever.
        "UP" | "no" => State::Up,
        _ => State::Down,
    }
}

/// The fields of a line up to number `last`. One that begins with a quote goes on to the next single
/// quote, and two quotes stand for one (RFC 4180).
fn fields(line: &str, last: usize) -> Vec<Cow<'_, str>> {
    let mut found = Vec::with_capacity(last + 1);
    let mut rest = Some(line);
    while let Some(line) = rest
        && found.len() <= last
    {
        let Some(quoted) = line.strip_prefix('"') else {
            let (field, more) = line.split_once(',').map_or((line, None), |(f, m)| (f, Some(m)));
            found.push(Cow::Borrowed(field));
            rest = more;
            continue;
        };
        let mut field = String::new();
        let mut left = quoted;
        loop {
            let (part, after) = left.split_once('"').unwrap_or((left, ""));
            field.push_str(part);
            left = after;
            match after.strip_prefix('"') {
                Some(more) => {
                    field.push('"');
                    left = more;
                }
                None => break,
            }
        }
        found.push(Cow::Owned(field));
        rest = left.split_once(',').map(|(_, more)| more);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "# pxname,svname,status,weight,check_status,type,last_chk,";

    fn states(rows: &str) -> Vec<State> {
        servers(&format!("{HEADER}\n{rows}\n\n")).unwrap().iter().map(|s| s.state).collect()
    }

    #[test]
    fn states_are_told_apart() {
        let rows = [
            ("UP", "L4OK", State::Up),
            ("UP 1/3", "* L7OK", State::Up),
            ("UP", "INI", State::Unchecked),
            ("UP", "* INI", State::Unchecked),
            ("no check", "", State::Up),
            ("DOWN", "L4CON", State::Down),
            ("DOWN 1/2", "* L4OK", State::Down),
            ("DOWN (agent)", "L4OK", State::Down),
            ("NOLB", "L7OKC", State::Down),
            ("DRAIN", "L4OK", State::Down),
            ("MAINT", "INI", State::Maintenance),
            ("MAINT (via b/s)", "", State::Maintenance),
            ("MAINT(resolution)", "", State::Maintenance),
        ];
        for (status, check, state) in rows {
            assert_eq!(states(&format!("b,s,{status},1,{check},2,,")), [state], "{status} {check}");
        }
    }

    #[test]
    fn only_servers_count_and_quotes_are_no_fields() {
        let rows =
            "b,FRONTEND,OPEN,,,0,,\nb,s,\"UP\",1,L4OK,2,\"a, \"\"b\"\"\",\nb,BACKEND,UP,1,,1,,";
        let found = servers(&format!("{HEADER}\n{rows}\n")).unwrap();
        assert_eq!(found, [Server { backend: "b".into(), name: "s".into(), state: State::Up }]);
        assert_eq!(fields("\"a,\"\"b\"\"\",c,\"d", 9), ["a,\"b\"", "c", "d"]);
        assert_eq!(fields("a,b,c,d", 1), ["a", "b"]);
    }

    #[test]
    fn what_is_no_table_is_told() {
        assert_eq!(servers("\n\n"), Err(Error::Nothing));
        let said = "No such proxy.\n\n";
        assert_eq!(servers(said), Err(Error::Other("No such proxy.".into())));
        assert_eq!(servers(&format!("{HEADER}\nb,s,UP\n")), Err(Error::Short(2)));
        assert_eq!(servers("# pxname,svname\n"), Err(Error::Other("# pxname,svname".into())));
        assert_eq!(servers(&format!("{HEADER}\n")), Ok(Vec::new()));
    }
}
