//! What keys do. Pure: an event in, the controls changed.

use crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

/// What whoever watches has chosen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Controls {
    pub(crate) paused: bool,
    pub(crate) sort: Sort,
    pub(crate) reversed: bool,
    /// Beneath the help.
    pub(crate) page: Page,
    pub(crate) help: bool,
    /// Workers, or lines, above the first one that is shown.
    pub(crate) scroll: usize,
}

/// What is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Page {
    #[default]
    All,
    Notes,
    Workers,
    Help,
}

/// By what workers are sorted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Sort {
    #[default]
    Agent,
    Worker,
    InFlight,
    Quiet,
    Seen,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    On,
    End,
}

impl Sort {
    /// As the columns stand.
    pub(super) const ALL: [Self; 5] = [
        Self::Agent,
        Self::Worker,
        Self::InFlight,
        Self::Quiet,
        Self::Seen,
    ];

    fn moved(self, steps: usize) -> Self {
        let at = Self::ALL.iter().position(|each| *each == self);
        Self::ALL[(at.unwrap_or(0) + steps) % Self::ALL.len()]
    }
}

impl Controls {
    pub(super) fn page(&self) -> Page {
        if self.help { Page::Help } else { self.page }
    }

    fn turn(&mut self) {
        self.scroll = 0;
        self.page = match self.page {
            Page::All => Page::Notes,
            Page::Notes => Page::Workers,
            Page::Workers | Page::Help => Page::All,
        };
    }

    pub(super) fn take(&mut self, event: &Event) -> Flow {
        match event {
            Event::Key(key) if key.kind != KeyEventKind::Release => self.press(*key),
            // The next drawing has the new size.
            _ => Flow::On,
        }
    }

    fn press(&mut self, key: KeyEvent) -> Flow {
        let controlled = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            // The terminal is raw: Ctrl-C comes as a key.
            KeyCode::Char('c' | 'd') if controlled => return Flow::End,
            KeyCode::Char('q') => return Flow::End,
            KeyCode::Esc if self.help => self.help = false,
            KeyCode::Esc => return Flow::End,
            KeyCode::Char('?' | 'h') => {
                self.scroll = 0;
                self.help = !self.help;
            }
            KeyCode::Char('v') if !self.help => self.turn(),
            KeyCode::Char('p' | ' ') => self.paused = !self.paused,
            KeyCode::Char('r') => self.reversed = !self.reversed,
            KeyCode::Right | KeyCode::Tab => self.sort = self.sort.moved(1),
            KeyCode::Left | KeyCode::BackTab => self.sort = self.sort.moved(Sort::ALL.len() - 1),
            KeyCode::Down => self.scroll = self.scroll.saturating_add(1),
            KeyCode::Up => self.scroll = self.scroll.saturating_sub(1),
            KeyCode::PageDown => self.scroll = self.scroll.saturating_add(10),
            KeyCode::PageUp => self.scroll = self.scroll.saturating_sub(10),
            KeyCode::Home => self.scroll = 0,
            _ => {}
        }
        Flow::On
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pressed(controls: &mut Controls, code: KeyCode, modifiers: KeyModifiers) -> Flow {
        controls.take(&Event::Key(KeyEvent::new(code, modifiers)))
    }

    #[test]
    fn every_way_out_ends_it() {
        for (code, modifiers) in [
            (KeyCode::Char('q'), KeyModifiers::NONE),
            (KeyCode::Esc, KeyModifiers::NONE),
            (KeyCode::Char('c'), KeyModifiers::CONTROL),
        ] {
            let flow = pressed(&mut Controls::default(), code, modifiers);
            assert_eq!(flow, Flow::End, "{code:?}");
        }
        let plain = pressed(
            &mut Controls::default(),
            KeyCode::Char('c'),
            KeyModifiers::NONE,
        );
        assert_eq!(plain, Flow::On);
    }

    #[test]
    fn one_key_goes_through_what_there_is_to_see() {
        let mut controls = Controls::default();
        for page in [Page::Notes, Page::Workers, Page::All] {
            controls.scroll = 3;
            pressed(&mut controls, KeyCode::Char('v'), KeyModifiers::NONE);
            assert_eq!((controls.page(), controls.scroll), (page, 0));
        }
        pressed(&mut controls, KeyCode::Char('?'), KeyModifiers::NONE);
        assert_eq!(controls.page(), Page::Help);
    }

    #[test]
    fn escape_closes_the_help_first() {
        let mut controls = Controls::default();
        pressed(&mut controls, KeyCode::Char('?'), KeyModifiers::NONE);
        assert!(controls.help);
        let flow = pressed(&mut controls, KeyCode::Esc, KeyModifiers::NONE);
        assert_eq!((flow, controls.help), (Flow::On, false));
    }

    #[test]
    fn columns_go_round_both_ways_and_no_list_scrolls_above_its_top() {
        let mut controls = Controls::default();
        for _ in 0..Sort::ALL.len() {
            pressed(&mut controls, KeyCode::Tab, KeyModifiers::NONE);
        }
        assert_eq!(controls.sort, Sort::Agent);
        pressed(&mut controls, KeyCode::Left, KeyModifiers::NONE);
        assert_eq!(controls.sort, Sort::Seen);
        pressed(&mut controls, KeyCode::Up, KeyModifiers::NONE);
        pressed(&mut controls, KeyCode::Down, KeyModifiers::NONE);
        assert_eq!(controls.scroll, 1);
        pressed(&mut controls, KeyCode::Char('p'), KeyModifiers::NONE);
        pressed(&mut controls, KeyCode::Char('r'), KeyModifiers::NONE);
        assert!(controls.paused && controls.reversed);
    }
}
