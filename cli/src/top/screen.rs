//! The terminal while `top` has it: raw, on its second page. It is given back when this is dropped, and before a panic
//! tells what it has to tell.

use anyhow::Context;
use ratatui::DefaultTerminal;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

pub(super) struct Screen(DefaultTerminal);

impl Screen {
    pub(super) fn open() -> anyhow::Result<Self> {
        // Installs the hook for panics, too.
        let terminal = ratatui::try_init().context("the terminal cannot be used")?;
        Ok(Self(terminal))
    }

    pub(super) fn draw(&mut self, draw: impl FnOnce(Rect, &mut Buffer)) -> anyhow::Result<()> {
        self.0
            .draw(|frame| draw(frame.area(), frame.buffer_mut()))
            .context("the terminal cannot be written")?;
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}
