//! A device of the configuration held against what its agent says of itself.

use super::metadata::{Kind, Metadata, Parameter};
use super::{Agents, secrets};
use crate::config::{Config, Device, Severity};

/// Something about a device that people should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Whether it cannot work, or can hardly work as meant; `None` for a remark.
    pub severity: Option<Severity>,
    /// Whose device it is.
    pub node: String,
    /// Which agent.
    pub agent: String,
    /// What it is, and what to do.
    pub text: String,
}

/// Looks at every device of the file: its agent, what that is told, and its secrets.
///
/// Runs the agents that are installed here, for their metadata only. `here` is the node of this
/// host, where it is one: what cannot be read elsewhere is not missing here.
pub async fn devices(agents: &Agents, config: &Config) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut absent: Vec<&str> = Vec::new();
    for node in &config.nodes {
        for device in &node.fence {
            let mut say = |severity, text: String| {
                let (node, agent) = (node.name.clone(), device.agent.clone());
                found.push(Finding { severity, node, agent, text });
            };
            for (severity, text) in of_secrets(device) {
                say(severity, text);
            }
            if !device.path().exists() {
                absent.push(&device.agent);
                continue;
            }
            match agents.metadata(device).await {
                Ok(metadata) => {
                    for (severity, text) in against(device, &metadata) {
                        say(severity, text);
                    }
                }
                Err(why) => say(Some(Severity::Error), why),
            }
        }
    }
    absent.sort_unstable();
    absent.dedup();
    for agent in absent {
        let text = "is not on this host: what it is told was not checked".to_owned();
        let (node, agent) = (String::new(), agent.to_owned());
        found.push(Finding { severity: None, node, agent, text });
    }
    found
}

type Said = Vec<(Option<Severity>, String)>;

const ERROR: Option<Severity> = Some(Severity::Error);
const WARNING: Option<Severity> = Some(Severity::Warning);

fn of_secrets(device: &Device) -> Said {
    let mut said = Said::new();
    for secret in &device.secrets {
        // Another host's credentials are not to be had here, and vipctl has none at all.
        let Ok(place) = secrets::place(secret) else { continue };
        match secrets::is_public(secret) {
            Ok(true) => said
                .push((WARNING, format!("{}: everybody can read it: chmod 0600", place.display()))),
            Ok(false) => {
                if let Err(why) = secrets::read(secret) {
                    said.push((ERROR, why));
                }
            }
            Err(why) => said.push((WARNING, why)),
        }
    }
    if !device.secrets.is_empty() && exposes(device) {
        let text = "hands its password to ipmitool's command line, where every user of the host \
                    that fences may see it for a moment";
        said.push((WARNING, text.to_owned()));
    }
    said
}

/// Whether the agent gives its password away: those that run ipmitool.
pub fn exposes(device: &Device) -> bool {
    const AGENTS: [&str; 8] = [
        "fence_ipmilan",
        "fence_ipmilanplus",
        "fence_idrac",
        "fence_ilo3",
        "fence_ilo4",
        "fence_ilo5",
        "fence_imm",
        "fence_openbmc",
    ];
    let name = device.agent.rsplit('/').next().unwrap_or_default();
    AGENTS.contains(&name)
}

/// What is wrong with `device` in the eyes of its agent.
pub fn against(device: &Device, agent: &Metadata) -> Vec<(Option<Severity>, String)> {
    let mut said = Said::new();
    if !agent.has("off") {
        said.push((ERROR, "cannot turn anything off".to_owned()));
    }
    if !agent.has("status") && agent.has("off") {
        let text = "cannot tell whether the power is off: its word that it turned it off must do";
        said.push((WARNING, text.to_owned()));
    }
    if agent.unfences() {
        let text = "cuts a host off from storage or network and does not turn it off: the host \
                    goes on, and has to be let in again by hand";
        said.push((WARNING, text.to_owned()));
    }
    let texts = device.parameters.iter().map(|(name, value)| (name.as_str(), Some(value.as_str())));
    let hidden = device.secrets.iter().map(|s| (s.parameter.as_str(), None));
    let given: Vec<(&str, Option<&str>)> = texts.chain(hidden).collect();
    for (name, value) in &given {
        match agent.parameter(name) {
            None => said.push((ERROR, unknown(agent, name))),
            Some(parameter) => {
                said.extend(value.and_then(|v| mistaken(parameter, v)).map(|text| (ERROR, text)));
                said.extend(newer(agent, parameter).map(|text| (None, text)));
            }
        }
    }
    for parameter in agent.parameters.iter().filter(|p| p.required && !p.deprecated) {
        let names: Vec<_> = names(agent, parameter);
        let is_given = given.iter().any(|(name, _)| names.contains(&plain(name).as_str()));
        if parameter.name != "action" && parameter.default.is_none() && !is_given {
            said.push((ERROR, format!("needs `{}`", parameter.name)));
        }
    }
    said
}

fn plain(name: &str) -> String {
    name.replace('-', "_")
}

/// A parameter under all its names.
fn names<'m>(agent: &'m Metadata, parameter: &'m Parameter) -> Vec<&'m str> {
    let older = parameter.obsoletes.as_deref();
    let newer = agent.parameters.iter().filter(|p| p.obsoletes.as_ref() == Some(&parameter.name));
    let newer = newer.map(|p| p.name.as_str());
    std::iter::once(parameter.name.as_str()).chain(older).chain(newer).collect()
}

fn newer(agent: &Metadata, parameter: &Parameter) -> Option<String> {
    let newer = agent.parameters.iter().find(|p| p.obsoletes.as_ref() == Some(&parameter.name))?;
    // `port` and `plug` are both what everybody writes.
    let both = parameter.name == "port" || plain(&newer.name) == plain(&parameter.name);
    (parameter.deprecated && !both)
        .then(|| format!("`{}` is an old name: write `{}`", parameter.name, newer.name))
}

fn unknown(agent: &Metadata, name: &str) -> String {
    let known = agent.parameters.iter().filter(|p| !p.deprecated).map(|p| p.name.as_str());
    let near = known
        .map(|k| (strsim::damerau_levenshtein(name, k), k))
        .filter(|(distance, k)| *distance <= (k.len().max(name.len()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance);
    match near {
        Some((_, near)) => format!("has no parameter `{name}`: write `{near}`"),
        None => {
            format!("has no parameter `{name}`; `{} -o metadata` names those it has", agent.name)
        }
    }
}

/// What a value should be and is not.
fn mistaken(parameter: &Parameter, value: &str) -> Option<String> {
    const WORDS: [&str; 8] = ["1", "0", "yes", "no", "on", "off", "true", "false"];
    let name = &parameter.name;
    match &parameter.kind {
        Kind::Text => None,
        Kind::Bool => (!WORDS.contains(&value.to_lowercase().as_str()))
            .then(|| format!("`{name}` must be true or false, not {value:?}")),
        Kind::Int | Kind::Seconds => value
            .parse::<i64>()
            .is_err()
            .then(|| format!("`{name}` must be a whole number, not {value:?}")),
        Kind::OneOf(words) => (!words.iter().any(|w| w == value))
            .then(|| format!("`{name}` must be one of {}, not {value:?}", words.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::{Secret, SecretSource};
    use crate::io::fence::metadata::parse;

    const AGENT: &str = r#"<resource-agent name="fence_x"><parameters>
<parameter name="action" required="1"><content type="string" default="reboot"/></parameter>
<parameter name="ip" required="1" obsoletes="ipaddr"><content type="string"/></parameter>
<parameter name="ipaddr" required="1" deprecated="1"><content type="string"/></parameter>
<parameter name="username" required="1" obsoletes="login"><content type="string"/></parameter>
<parameter name="login" required="1" deprecated="1"><content type="string"/></parameter>
<parameter name="password" obsoletes="passwd"><content type="string"/></parameter>
<parameter name="lanplus"><content type="boolean"/></parameter>
<parameter name="power_wait"><content type="second" default="0"/></parameter>
<parameter name="privlvl"><content type="select"><option value="user"/><option value="admin"/></content></parameter>
</parameters><actions><action name="off"/>STATUS</actions></resource-agent>"#;

    fn said(parameters: &[(&str, &str)], agent: &str) -> Vec<String> {
        let pair = |(a, b): &(&str, &str)| ((*a).to_owned(), (*b).to_owned());
        let source = SecretSource::Credential("x".to_owned());
        let device = Device {
            agent: "fence_x".to_owned(),
            level: 1,
            timeout: Duration::from_secs(1),
            attempts: 1,
            delay: Duration::ZERO,
            parameters: parameters.iter().map(pair).collect(),
            secrets: vec![Secret { parameter: "password".to_owned(), source }],
        };
        let level = |s: Option<Severity>| match s {
            Some(Severity::Error) => "error",
            Some(Severity::Warning) => "warning",
            None => "note",
        };
        let found = against(&device, &parse(agent).unwrap());
        found.into_iter().map(|(s, text)| format!("{}: {text}", level(s))).collect()
    }

    #[test]
    fn an_agent_knows_what_it_can_be_told() {
        let agent = AGENT.replace("STATUS", "<action name=\"status\"/>");
        let good = [("ip", "1"), ("username", "x"), ("lanplus", "1"), ("power_wait", "2")];
        assert_eq!(said(&good, &agent), [""; 0]);
        let old = said(&[("ipaddr", "1"), ("login", "x")], &agent);
        let expected = [
            "note: `ipaddr` is an old name: write `ip`",
            "note: `login` is an old name: write `username`",
        ];
        assert_eq!(old, expected);
        let bad = [
            ("lanpuls", "1"),
            ("ip", "1"),
            ("lanplus", "ja"),
            ("power_wait", "2s"),
            ("privlvl", "root"),
            ("zzz", "1"),
        ];
        let expected = [
            "error: has no parameter `lanpuls`: write `lanplus`",
            "error: `lanplus` must be true or false, not \"ja\"",
            "error: `power_wait` must be a whole number, not \"2s\"",
            "error: `privlvl` must be one of user, admin, not \"root\"",
            "error: has no parameter `zzz`; `fence_x -o metadata` names those it has",
            "error: needs `username`",
        ];
        assert_eq!(said(&bad, &agent), expected);
    }

    #[test]
    fn what_an_agent_cannot_do_is_told() {
        let good = [("ip", "1"), ("username", "x")];
        let blind = said(&good, &AGENT.replace("STATUS", ""));
        assert!(blind[0].starts_with("warning: cannot tell"), "{blind:?}");
        let fabric = AGENT
            .replace("STATUS", "<action name=\"on\" automatic=\"1\"/><action name=\"status\"/>");
        assert!(said(&good, &fabric)[0].contains("let in again by hand"));
        let harmless = AGENT.replace("<action name=\"off\"/>STATUS", "<action name=\"status\"/>");
        assert_eq!(said(&good, &harmless), ["error: cannot turn anything off"]);
    }
}
