//! What an agent says of itself, in XML.

use roxmltree::{Document, Node, ParsingOptions};

/// How many elements a sensible agent stays below.
const NODES: u32 = 50_000;

/// What an agent can do, and what it can be told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Its name.
    pub name: String,
    /// What it can do, in its order.
    pub actions: Vec<Action>,
    /// What it can be told, in its order.
    pub parameters: Vec<Parameter>,
}

/// Something an agent can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// `off`, `status` and the like.
    pub name: String,
    /// `on` only: a host that was cut off has to be let in again before it takes part.
    pub automatic: bool,
    /// `on` only: that must be done on that host itself.
    pub on_target: bool,
}

/// Something an agent can be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its name, with `_`.
    pub name: String,
    /// What a value must be.
    pub kind: Kind,
    /// What it is without being told.
    pub default: Option<String>,
    /// Whether it must be told.
    pub required: bool,
    /// Whether there is a newer name for it.
    pub deprecated: bool,
    /// The older name that it replaces.
    pub obsoletes: Option<String>,
}

/// What a value must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any text, and whatever an agent calls by a name that is not known here.
    Text,
    /// Yes or no.
    Bool,
    /// A whole number.
    Int,
    /// A time in seconds.
    Seconds,
    /// One of these.
    OneOf(Vec<String>),
}

impl Metadata {
    /// Whether it can do `action`.
    pub fn has(&self, action: &str) -> bool {
        self.actions.iter().any(|a| a.name == action)
    }

    /// Whether it cuts a host off from something rather than turning it off: the host has to be
    /// let in again before it takes part.
    pub fn unfences(&self) -> bool {
        self.actions.iter().any(|a| a.name == "on" && a.automatic)
    }

    /// A parameter by its name, with `_` or `-`.
    pub fn parameter(&self, name: &str) -> Option<&Parameter> {
        let name = plain(name);
        self.parameters.iter().find(|p| p.name == name)
    }

    /// The parameter that has the host's name at the device.
    pub fn host_argument(&self) -> Option<&'static str> {
        ["plug", "port"].into_iter().find(|name| self.parameter(name).is_some())
    }
}

/// Why a text is not the metadata of an agent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// No XML.
    #[error("not XML: {0}")]
    Xml(String),
    /// XML of something else.
    #[error("<{0}>, expected <resource-agent>")]
    Root(String),
    /// An agent that does nothing is none.
    #[error("names no action")]
    Actions,
}

/// Reads what an agent printed.
///
/// # Errors
/// If it is not XML, or not of an agent.
pub fn parse(text: &str) -> Result<Metadata, MetadataError> {
    // Some print a line of their own first.
    let text = text.find('<').map_or(text, |from| &text[from..]);
    let options = ParsingOptions { allow_dtd: false, nodes_limit: NODES, ..Default::default() };
    let document = Document::parse_with_options(text, options)
        .map_err(|e| MetadataError::Xml(e.to_string()))?;
    let root = document.root_element();
    if root.tag_name().name() != "resource-agent" {
        return Err(MetadataError::Root(root.tag_name().name().to_owned()));
    }
    let below = |group: &'static str, each: &'static str| {
        let groups = root.children().filter(move |n| n.has_tag_name(group));
        groups.flat_map(|n| n.children()).filter(move |n| n.has_tag_name(each))
    };
    let found = Metadata {
        name: root.attribute("name").unwrap_or_default().to_owned(),
        actions: below("actions", "action").filter_map(|n| action(&n)).collect(),
        parameters: below("parameters", "parameter").filter_map(|n| parameter(&n)).collect(),
    };
    if found.actions.is_empty() { Err(MetadataError::Actions) } else { Ok(found) }
}

fn action(node: &Node<'_, '_>) -> Option<Action> {
    Some(Action {
        name: node.attribute("name")?.to_owned(),
        automatic: flag(node, "automatic"),
        on_target: flag(node, "on_target"),
    })
}

fn parameter(node: &Node<'_, '_>) -> Option<Parameter> {
    let content = node.children().find(|n| n.has_tag_name("content"));
    let attribute = |name: &str| content.as_ref().and_then(|c| c.attribute(name));
    let kind = match attribute("type").unwrap_or_default() {
        "boolean" => Kind::Bool,
        "integer" => Kind::Int,
        "second" | "time" => Kind::Seconds,
        "select" => {
            let options = content.iter().flat_map(Node::children);
            let options = options.filter(|n| n.has_tag_name("option"));
            let words: Vec<_> =
                options.filter_map(|n| Some(n.attribute("value")?.to_owned())).collect();
            if words.is_empty() { Kind::Text } else { Kind::OneOf(words) }
        }
        _ => Kind::Text,
    };
    Some(Parameter {
        name: plain(node.attribute("name")?),
        kind,
        default: attribute("default").map(str::to_owned),
        required: flag(node, "required"),
        deprecated: flag(node, "deprecated"),
        obsoletes: node.attribute("obsoletes").map(plain),
    })
}

fn flag(node: &Node<'_, '_>, name: &str) -> bool {
    matches!(node.attribute(name), Some("1" | "true" | "yes"))
}

fn plain(name: &str) -> String {
    name.replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGENT: &str = r#"<?xml version="1.0" ?>
<resource-agent name="fence_x" shortdesc="x &amp; y">
<parameters>
  <parameter name="action" required="1"><content type="string" default="reboot"/></parameter>
  <parameter name="ip" required="1" obsoletes="ipaddr"><content type="string"/></parameter>
  <parameter name="ipaddr" required="1" deprecated="1"><content type="string"/></parameter>
  <parameter name="systems-uri"><content type="weird"/></parameter>
  <parameter name="lanplus"><content type="boolean" default="0"/></parameter>
  <parameter name="method"><content type="select" default="onoff"><option value="onoff"/><option value="cycle"/></content></parameter>
  <parameter name="port"/>
  <parameter required="1"/>
</parameters>
<actions><action name="on" automatic="1" on_target="1"/><action name="off"/><action/></actions>
</resource-agent>"#;

    #[test]
    fn an_agent_is_read() {
        let found = parse(AGENT).unwrap();
        assert_eq!((found.name.as_str(), found.parameters.len()), ("fence_x", 7));
        assert!(found.has("off") && !found.has("reboot") && found.unfences());
        assert!(found.actions[0].on_target);
        assert_eq!(found.host_argument(), Some("port"));
        let ip = found.parameter("ip").unwrap();
        assert_eq!((ip.required, ip.obsoletes.as_deref()), (true, Some("ipaddr")));
        assert!(found.parameter("ipaddr").unwrap().deprecated);
        assert_eq!(found.parameter("systems_uri").unwrap().kind, Kind::Text);
        let method = found.parameter("method").unwrap();
        assert_eq!(method.kind, Kind::OneOf(vec!["onoff".to_owned(), "cycle".to_owned()]));
        assert_eq!(method.default.as_deref(), Some("onoff"));
        assert_eq!(parse(&format!("warning: old\n{AGENT}")), Ok(found));
    }

    #[test]
    fn whatever_is_damaged_is_read_or_refused() {
        for at in 0..AGENT.len() {
            let _ = parse(&AGENT[..at]);
            for damage in ["", "<", ">", "&", "\"", "<![CDATA[", "&#0;", "\u{feff}", "<!--"] {
                let damaged = [&AGENT[..at], damage, &AGENT[at + 1..]].concat();
                if let Ok(found) = parse(&damaged) {
                    assert!(!found.actions.is_empty(), "{damaged}");
                }
            }
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        assert!(matches!(parse(""), Err(MetadataError::Xml(_))));
        assert!(matches!(parse("usage: fence_x"), Err(MetadataError::Xml(_))));
        assert_eq!(parse("<a/>"), Err(MetadataError::Root("a".to_owned())));
        assert_eq!(parse("<resource-agent/>"), Err(MetadataError::Actions));
        let entity = "<!DOCTYPE a [<!ENTITY b \"c\">]><resource-agent>&b;</resource-agent>";
        assert!(matches!(parse(entity), Err(MetadataError::Xml(_))));
        let deep = "<a>".repeat(100_000);
        assert!(matches!(parse(&deep), Err(MetadataError::Xml(_))));
        let many = format!("<resource-agent>{}</resource-agent>", "<a/>".repeat(60_000));
        assert!(matches!(parse(&many), Err(MetadataError::Xml(_))));
    }
}
