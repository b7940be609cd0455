//! One who reads, and what they were given: each event must be the next one, each piece of a draft must join to what they
//! have of it.

use super::*;

#[derive(Debug, Default)]
pub(super) struct Reader {
    pub(super) here: bool,
    pub(super) at: Option<Cursor>,
    pub(super) seq: u64,
    pub(super) drafts: BTreeMap<String, (u32, u32, String)>,
}

/// What somebody who was away for long is given of the log, up to where the memory begins.
pub(super) fn logged(log: &[LogEntry], from: &Cursor, upto: Seq) -> Vec<Arc<Item>> {
    let mut at = from.clone();
    let missed = log
        .iter()
        .filter(|entry| entry.seq > from.seq && entry.seq <= upto);
    let items = missed.map(|entry| {
        (at.seq, at.tag) = (entry.seq, Tag::of(&entry.event.id));
        at.draft.take_if(|draft| draft.response == entry.event.id);
        let seen = Seen::Event(entry.clone());
        Arc::new(Item::seen(castle(), Arc::new(at.clone()), seen))
    });
    items.collect()
}

impl Reader {
    pub(super) fn given(&mut self, item: &Item) {
        let seen = match &item.told {
            Told::Seen(seen) => seen,
            Told::Live(running) => {
                self.drafts
                    .retain(|re, _| running.iter().any(|known| known.as_str() == re));
                return;
            }
        };
        match &**seen {
            Seen::Event(entry) => {
                assert_eq!(entry.seq.0, self.seq + 1);
                self.seq += 1;
                self.drafts.remove(entry.event.id.as_str());
                for re in &item.void {
                    self.drafts.remove(re.as_str());
                }
            }
            Seen::Delta {
                re,
                attempt,
                i,
                n,
                text,
            } => {
                let new = (*attempt, 0, String::new());
                let draft = self.drafts.entry(re.to_string()).or_insert(new);
                assert_eq!((draft.0, draft.1), (*attempt, *i), "nothing is left out");
                draft.1 += n;
                draft.2.push_str(text);
            }
            Seen::Reset { re, attempt } => {
                let new = (*attempt, 0, String::new());
                self.drafts.insert(re.to_string(), new);
            }
            Seen::Snapshot {
                re,
                attempt,
                upto,
                text,
            } => {
                let all = (*attempt, *upto, text.clone());
                self.drafts.insert(re.to_string(), all);
            }
            Seen::Gap => panic!("nothing is missing"),
        }
        self.at = Some(item.cursor.to_string().parse().unwrap());
    }
}
