//! Prompt files: front matter (name, version, params) and a strict minijinja template.
//!
//! Every prompt is checked when it is loaded, by rendering it with a sample of what it will be given, so that a broken
//! one stops the start and not a turn. The programs embed their prompts; a folder given by `--prompts` replaces them
//! all, under the same names. Rendering is pure: the same values give the same bytes.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::file;

/// The name of the one template in a prompt's own environment.
const TEMPLATE: &str = "prompt";
/// The most bytes of a file: far more than any model is told in one message.
const MAX_BYTES: u64 = 256 * 1024;

/// Why a prompt cannot be used. `file` is its path, or `embedded <path>`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("prompt {file} cannot be read: write it, or run without --prompts")]
    Missing { file: String, source: io::Error },
    #[error("prompt {file} has more than {} KiB: make it shorter", MAX_BYTES / 1024)]
    TooLarge { file: String },
    #[error(
        "prompt {file}: it must begin with a line `---`, then name, version and params, then `---`"
    )]
    FrontMatter { file: String },
    #[error("prompt {file}: the front matter is wrong: {what}")]
    Header { file: String, what: String },
    #[error("prompt {file}, line {line}: {what}")]
    Template {
        file: String,
        line: usize,
        what: String,
    },
    #[error("prompt {file}: its name must be '{wanted}', under which it is asked for")]
    Renamed { file: String, wanted: String },
    #[error("there is no prompt '{0}'")]
    Unknown(String),
    #[error("two prompts have the name '{0}'")]
    Twice(String),
}

/// The prompts of one agent, by name. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Prompts {
    by_name: Arc<BTreeMap<String, Prompt>>,
}

/// One prompt: the text of one message.
#[derive(Debug)]
pub struct Prompt {
    file: String,
    reference: String,
    params: Params,
    body: String,
    /// Lines of the file before the template's first.
    offset: usize,
    environment: Environment<'static>,
}

/// How the model is asked.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Params {
    pub temperature: Option<f32>,
    pub max_tokens: Option<u32>,
    #[serde(default)]
    pub stop: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    name: String,
    version: u32,
    #[serde(default)]
    params: Params,
}

impl Prompts {
    /// Loads and checks the prompts of `agent`. `embedded` are (file name, text); `folder` holds `<agent>/<file name>`
    /// for each of them. `sample` has every variable that any of the prompts may use.
    ///
    /// # Errors
    /// The first file that is missing, too large, badly formed, has another name, or does not render.
    pub fn load(
        agent: story::Agent,
        embedded: &[(&str, &str)],
        folder: Option<&Path>,
        sample: impl Serialize,
    ) -> Result<Self, Error> {
        let sample = Value::from(Serde(&sample));
        let mut by_name = BTreeMap::new();
        for (name, text) in embedded {
            let mut prompt = Prompt::parse(format!("embedded {agent}/{name}"), text)?;
            let wanted = prompt.name().to_owned();
            if let Some(folder) = folder {
                prompt = Prompt::read(&folder.join(agent.as_str()).join(name))?;
            }
            if prompt.name() != wanted {
                let file = prompt.file;
                return Err(Error::Renamed { file, wanted });
            }
            prompt.check(&sample)?;
            if by_name.contains_key(&wanted) {
                return Err(Error::Twice(wanted));
            }
            by_name.insert(wanted, prompt);
        }
        Ok(Self {
            by_name: Arc::new(by_name),
        })
    }

    /// `name@version#sha` of each, in the order of their names.
    #[must_use]
    pub fn references(&self) -> Vec<String> {
        let prompts = self.by_name.values();
        prompts.map(|prompt| prompt.reference.clone()).collect()
    }

    /// The fewest tokens that one of them allows an answer, if any tells.
    pub(crate) fn least_answer(&self) -> Option<u32> {
        let prompts = self.by_name.values();
        prompts.filter_map(|prompt| prompt.params.max_tokens).min()
    }

    /// # Errors
    /// When no loaded prompt has this name.
    pub fn get(&self, name: &str) -> Result<&Prompt, Error> {
        self.by_name
            .get(name)
            .ok_or_else(|| Error::Unknown(name.to_owned()))
    }
}

impl Prompt {
    fn read(path: &Path) -> Result<Self, Error> {
        let file = path.display().to_string();
        match text(path) {
            Ok(text) => Self::parse(file, &text),
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                Err(Error::TooLarge { file })
            }
            Err(source) => Err(Error::Missing { file, source }),
        }
    }

    /// Reads a prompt from the text of its file.
    ///
    /// # Errors
    /// When the front matter or the template is badly formed.
    pub fn parse(file: String, text: &str) -> Result<Self, Error> {
        let Some((front, body)) = split(text) else {
            return Err(Error::FrontMatter { file });
        };
        let header: Header = match serde_saphyr::from_str(front) {
            Ok(header) => header,
            Err(error) => {
                return Err(Error::Header {
                    file,
                    what: first_line(&error.to_string()),
                });
            }
        };
        let digest = Sha256::digest(text.as_bytes());
        let sha: String = digest[..6].iter().map(|b| format!("{b:02x}")).collect();
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        let mut prompt = Self {
            reference: format!("{}@{}#{sha}", header.name, header.version),
            params: header.params,
            offset: text[..text.len() - body.len()].lines().count(),
            body: body.to_owned(),
            environment,
            file,
        };
        let added = prompt
            .environment
            .add_template_owned(TEMPLATE, prompt.body.clone());
        match added {
            Ok(()) => Ok(prompt),
            Err(error) => Err(prompt.wrong(&error)),
        }
    }

    fn name(&self) -> &str {
        let (name, _) = self.reference.split_once('@').unwrap_or_default();
        name
    }

    /// `name@version#sha`: what made a response. The sha is of the whole file.
    #[must_use]
    pub fn reference(&self) -> &str {
        &self.reference
    }

    #[must_use]
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// # Errors
    /// When a variable is not there or an expression fails.
    pub fn render(&self, values: impl Serialize) -> Result<String, Error> {
        self.render_value(Value::from(Serde(&values)))
    }

    fn render_value(&self, values: Value) -> Result<String, Error> {
        self.environment
            .get_template(TEMPLATE)
            .and_then(|template| template.render(values))
            .map_err(|error| self.wrong(&error))
    }

    /// Besides rendering, looks at variables that only branches not taken by the sample use.
    fn check(&self, sample: &Value) -> Result<(), Error> {
        self.render_value(sample.clone())?;
        let template = self
            .environment
            .get_template(TEMPLATE)
            .map_err(|error| self.wrong(&error))?;
        let mut names: Vec<String> = template.undeclared_variables(false).into_iter().collect();
        names.sort();
        let global = |name: &str| self.environment.globals().any(|(known, _)| known == name);
        let unknown = names
            .into_iter()
            .find(|name| !global(name) && sample.get_attr(name).is_ok_and(|v| v.is_undefined()));
        match unknown {
            None => Ok(()),
            Some(name) => Err(Error::Template {
                file: self.file.clone(),
                line: self.offset + line_of(&self.body, &name),
                what: format!("there is no variable `{name}`"),
            }),
        }
    }

    fn wrong(&self, error: &minijinja::Error) -> Error {
        let place = error.range().and_then(|range| self.body.get(range));
        let what = match (error.kind(), place) {
            (minijinja::ErrorKind::UndefinedError, Some(name)) => {
                format!("there is no variable `{name}`")
            }
            (kind, _) => match error.detail() {
                Some(detail) => format!("{kind}: {detail}"),
                None => kind.to_string(),
            },
        };
        Error::Template {
            file: self.file.clone(),
            line: self.offset + error.line().unwrap_or(1),
            what,
        }
    }
}

fn text(path: &Path) -> io::Result<String> {
    // Whoever opens a pipe waits for its writer.
    if !path.metadata()?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    file::text(path, MAX_BYTES)
}

/// Front matter and template of a file.
fn split(text: &str) -> Option<(&str, &str)> {
    let rest = text.strip_prefix("---\n")?;
    let (front, body) = rest.split_once("\n---\n")?;
    Some((front, body))
}

fn line_of(body: &str, name: &str) -> usize {
    let found = body.lines().position(|line| line.contains(name));
    found.unwrap_or_default() + 1
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests;
