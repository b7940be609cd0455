//! The models that an agent asks, one by one: what each is called, and what says so.

use super::Models;

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// As it is named here.
    pub name: String,
    /// As its server has it.
    pub served_as: String,
    /// What says so.
    pub named_by: String,
    /// What says where that server is.
    pub placed_by: String,
}

impl Models {
    /// The model of this name and those that are asked in its place, in their order.
    #[must_use]
    pub fn members(&self, name: &str) -> Vec<Member> {
        let then = self.models.get(name).map(|model| model.then.as_slice());
        let first = self.member(name, true);
        let others = then.unwrap_or_default().iter();
        let others = others.map(|name| self.member(name, false));
        std::iter::once(first).chain(others).collect()
    }

    fn member(&self, name: &str, is_first: bool) -> Member {
        let model = self.models.get(name).cloned().unwrap_or_default();
        let (option, at) = (
            |option: &str| option.to_owned(),
            model.at.filter(|_| !is_first),
        );
        let field = |field: &str| format!("models.{name}.{field}");
        Member {
            name: name.to_owned(),
            named_by: match (&model.name, is_first) {
                (None, true) => option("--model"),
                _ => field("name"),
            },
            served_as: model.name.unwrap_or_else(|| name.to_owned()),
            placed_by: at.map_or_else(|| option("--llm"), |_| field("at")),
        }
    }
}
