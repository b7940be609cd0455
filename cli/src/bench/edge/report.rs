//! The figures of the gateway, as they are told: one row each, for programs and for people.

use std::fmt;

use serde::Serialize;

use crate::bench::report::figure;

/// Figures of one situation.
#[derive(Debug, Serialize)]
pub(super) struct Group {
    pub(super) name: String,
    pub(super) rows: Vec<Row>,
}

/// One figure, beside that of the bare server and what it is to reach.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) gateway: f64,
    pub(super) bare: Option<f64>,
    pub(super) goal: Option<Goal>,
}

/// What a figure is to be.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Goal {
    AtMost(f64),
    AtLeast(f64),
}

#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) groups: Vec<Group>,
    pub(super) cpus: usize,
    pub(super) seconds: f64,
}

impl Group {
    pub(super) fn new(name: impl Into<String>, rows: impl Into<Vec<Row>>) -> Self {
        Self {
            name: name.into(),
            rows: rows.into(),
        }
    }
}

impl Row {
    pub(super) fn new(name: &'static str, gateway: f64) -> Self {
        Self {
            name,
            gateway,
            bare: None,
            goal: None,
        }
    }

    pub(super) fn beside(self, bare: f64) -> Self {
        Self {
            bare: Some(bare),
            ..self
        }
    }

    /// Where there is a goal.
    pub(super) fn at_most(self, goal: impl Into<Option<f64>>) -> Self {
        Self {
            goal: goal.into().map(Goal::AtMost),
            ..self
        }
    }

    pub(super) fn at_least(self, goal: f64) -> Self {
        Self {
            goal: Some(Goal::AtLeast(goal)),
            ..self
        }
    }

    fn line(&self) -> String {
        let bare = self.bare.map_or_else(String::new, shown);
        let ratio = self.bare.filter(|bare| *bare > 0.0);
        let ratio = ratio.map_or_else(String::new, |bare| format!("{:.2}", self.gateway / bare));
        let goal = self.goal.map_or_else(String::new, |goal| {
            let word = if goal.is_reached(self.gateway) {
                ""
            } else {
                " MISSED"
            };
            format!("{goal}{word}")
        });
        let (name, gateway) = (&self.name, shown(self.gateway));
        let line = format!("  {name:<60}{gateway:>9}{bare:>9}{ratio:>8}  {goal}");
        line.trim_end().to_owned()
    }
}

impl Goal {
    fn is_reached(self, figure: f64) -> bool {
        match self {
            Self::AtMost(most) => figure <= most,
            Self::AtLeast(least) => figure >= least,
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(most) => write!(f, "{most}"),
            Self::AtLeast(least) => write!(f, "at least {least}"),
        }
    }
}

impl Report {
    pub(super) fn text(&self) -> String {
        let (gateway, bare, ratio) = ("gateway", "bare", "ratio");
        let head = format!("{:<62}{gateway:>9}{bare:>9}{ratio:>8}  goal (at most)", "");
        let mut lines = vec![head];
        for group in &self.groups {
            lines.push(group.name.clone());
            lines.extend(group.rows.iter().map(Row::line));
        }
        lines.push(format!(
            "{:.0} s on {} CPUs, which Redis, the servers and their readers share",
            self.seconds, self.cpus
        ));
        lines.join("\n")
    }
}

/// A count is shown as it is.
fn shown(value: f64) -> String {
    match value.fract() {
        0.0 => format!("{value}"),
        _ => figure(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_one_table() {
        let report = Report {
            groups: vec![
                Group::new(
                    "idle WebSockets",
                    [Row::new("memory of one, KiB", 7.25)
                        .beside(3.8)
                        .at_most(8.0)],
                ),
                Group::new(
                    "resumes",
                    [
                        Row::new("p99, ms", 51.0).at_most(50.0),
                        Row::new("characters lost", 0.0).at_most(0.0),
                        Row::new("CPU, µs", 140.0).beside(0.0),
                        Row::new("made in a second", 49_100.0).at_least(49_000.0),
                        Row::new("made in a second", 48_900.0).at_least(49_000.0),
                    ],
                ),
            ],
            cpus: 2,
            seconds: 191.4,
        };
        insta::assert_snapshot!(report.text(), @r"
                                                                        gateway     bare   ratio  goal (at most)
        idle WebSockets
          memory of one, KiB                                               7.25     3.80    1.91  8
        resumes
          p99, ms                                                            51                   50 MISSED
          characters lost                                                     0                   0
          CPU, µs                                                           140        0
          made in a second                                                49100                   at least 49000
          made in a second                                                48900                   at least 49000 MISSED
        191 s on 2 CPUs, which Redis, the servers and their readers share
        ");
    }
}
