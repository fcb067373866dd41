//! The ladder as a screen: arrows above, the message that is chosen and what roost decided about it below.

use std::net::TcpStream;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use anyhow::Result;
use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, Borders, Paragraph, Wrap};
use roost_hep::{Packet, encode};

use crate::commands::trace::ladder::{Ladder, Rung, note};
use crate::commands::trace::packets::read_packets;

/// Messages that are kept; older ones go.
const MOST: usize = 5_000;
/// How often keys and messages are looked for.
const EVERY: Duration = Duration::from_millis(50);
const PAGE: usize = 10;

/// Shows messages until `q`, or the server's end and then `q`; `also` is given each of them.
///
/// # Errors
/// The terminal cannot be used.
pub(super) fn run(stream: TcpStream, mut also: impl FnMut(&Packet<'_>) -> Result<()>) -> Result<()> {
    let (sender, packets) = channel();
    std::thread::spawn(move || {
        // However it ends, the screen is told by the channel.
        let _ = read_packets(stream, |packet| {
            let mut bytes = Vec::new();
            Ok(encode(packet, &mut bytes).is_none() || sender.send(bytes).is_ok())
        });
    });
    let mut terminal = ratatui::try_init()?;
    let ended = follow(&mut terminal, &packets, &mut also);
    ratatui::restore();
    ended
}

fn follow(
    terminal: &mut ratatui::DefaultTerminal,
    packets: &Receiver<Vec<u8>>,
    also: &mut dyn FnMut(&Packet<'_>) -> Result<()>,
) -> Result<()> {
    let mut view = View::default();
    loop {
        loop {
            match packets.try_recv() {
                Ok(bytes) => {
                    if let Some(packet) = roost_hep::decode(&bytes) {
                        view.add(&packet);
                        if !packet.is_log {
                            also(&packet)?;
                        }
                    }
                }
                Err(std::sync::mpsc::TryRecvError::Empty) => break,
                Err(std::sync::mpsc::TryRecvError::Disconnected) => {
                    view.has_ended = true;
                    break;
                }
            }
        }
        terminal.draw(|frame| view.draw(frame))?;
        if event::poll(EVERY)?
            && let Event::Key(key) = event::read()?
            && key.kind == KeyEventKind::Press
        {
            let is_interrupt =
                key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
            if is_interrupt || !view.press(key.code) {
                return Ok(());
            }
        }
    }
}

/// One message on the screen.
#[derive(Debug)]
struct Entry {
    rung: Rung,
    text: String,
    decisions: Vec<String>,
    /// How often it came again.
    again: u32,
}

/// What is on the screen.
#[derive(Debug, Default)]
struct View {
    ladder: Ladder,
    entries: Vec<Entry>,
    chosen: usize,
    /// Whether the newest is chosen as messages come.
    is_left_behind: bool,
    hides_decisions: bool,
    has_ended: bool,
}

impl View {
    fn add(&mut self, packet: &Packet<'_>) {
        let text = String::from_utf8_lossy(packet.payload).into_owned();
        if packet.is_log {
            if let Some(entry) = self.entries.last_mut() {
                entry.decisions.push(text);
            }
            return;
        }
        let rung = self.ladder.add(packet, &text);
        if rung.is_again
            && let Some(entry) = self.entries.iter_mut().rev().find(|entry| entry.text == text)
        {
            entry.again += 1;
            return;
        }
        self.entries.push(Entry { rung, text, decisions: Vec::new(), again: 0 });
        if self.entries.len() > MOST {
            self.entries.remove(0);
            self.chosen = self.chosen.saturating_sub(1);
        }
        if !self.is_left_behind {
            self.chosen = self.entries.len() - 1;
        }
    }

    /// Whether it goes on.
    fn press(&mut self, key: KeyCode) -> bool {
        let last = self.entries.len().saturating_sub(1);
        self.chosen = match key {
            KeyCode::Char('q') | KeyCode::Esc => return false,
            KeyCode::Up | KeyCode::Char('k') => self.chosen.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => self.chosen + 1,
            KeyCode::PageUp => self.chosen.saturating_sub(PAGE),
            KeyCode::PageDown => self.chosen + PAGE,
            KeyCode::Home | KeyCode::Char('g') => 0,
            KeyCode::End | KeyCode::Char('G') => last,
            KeyCode::Char('d') => {
                self.hides_decisions = !self.hides_decisions;
                self.chosen
            }
            _ => self.chosen,
        }
        .min(last);
        self.is_left_behind = self.chosen < last;
        true
    }

    fn draw(&self, frame: &mut Frame<'_>) {
        let areas = Layout::vertical([
            Constraint::Length(1),
            Constraint::Percentage(60),
            Constraint::Min(3),
            Constraint::Length(1),
        ]);
        let [heading, ladder, message, status] = areas.areas(frame.area());
        let bold = Style::default().add_modifier(Modifier::BOLD);
        frame.render_widget(Paragraph::new(self.ladder.heading()).style(bold), heading);
        let (lines, chosen_at) = self.lines();
        let room = usize::from(ladder.height);
        let first = chosen_at.saturating_sub(room.saturating_sub(1));
        let shown: Vec<_> = lines.into_iter().skip(first).take(room).collect();
        frame.render_widget(Paragraph::new(shown), ladder);
        let text = self.entries.get(self.chosen).map_or("", |entry| entry.text.as_str());
        let block = Block::default().borders(Borders::TOP).title(" message ");
        frame.render_widget(
            Paragraph::new(text.replace('\r', "")).wrap(Wrap { trim: false }).block(block),
            message,
        );
        let state = match (self.has_ended, self.is_left_behind) {
            (true, _) => "the server has ended the trace",
            (_, true) => "G: to the newest",
            _ => "waiting for messages",
        };
        let keys = format!(" {} messages; {state}   ↑↓ choose   d decisions   q quit", self.entries.len());
        let reversed = Style::default().add_modifier(Modifier::REVERSED);
        frame.render_widget(Paragraph::new(keys).style(reversed), status);
    }

    /// All lines, and which is the last one of the chosen message.
    fn lines(&self) -> (Vec<Line<'_>>, usize) {
        let (mut lines, mut chosen_at) = (Vec::new(), 0);
        for (index, entry) in self.entries.iter().enumerate() {
            let again = match entry.again {
                0 => String::new(),
                count => format!("  (again: {count})"),
            };
            let style = match index == self.chosen {
                true => Style::default().add_modifier(Modifier::REVERSED),
                false => colour_of(&entry.text),
            };
            lines.push(Line::styled(format!("{}{again}", self.ladder.line(&entry.rung)), style));
            if !self.hides_decisions {
                let dim = Style::default().fg(Color::DarkGray);
                let decisions = entry.decisions.iter();
                lines.extend(decisions.map(|text| Line::styled(note(text), dim)));
            }
            if index == self.chosen {
                chosen_at = lines.len().saturating_sub(1);
            }
        }
        (lines, chosen_at)
    }
}

/// Failures stand out.
fn colour_of(text: &str) -> Style {
    let code = text.strip_prefix("SIP/2.0 ").and_then(|rest| rest.bytes().next());
    match code {
        Some(b'2') => Style::default().fg(Color::Green),
        Some(b'4'..=b'6') => Style::default().fg(Color::Red),
        _ => Style::default(),
    }
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::commands::trace::packets::packet;

    fn screen(view: &View) -> String {
        let mut terminal = Terminal::new(TestBackend::new(120, 20)).unwrap();
        terminal.draw(|frame| view.draw(frame)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn messages_decisions_and_the_chosen_text_are_on_the_screen() {
        let (phone, roost) = ("10.0.0.7:5060", "10.0.0.1:5060");
        let mut view = View::default();
        let invite = "INVITE sip:9002@pbx SIP/2.0\r\nFrom: <sip:9001@pbx>;tag=1\r\n\r\n";
        view.add(&packet(phone, roost, 1, invite));
        view.add(&packet(phone, roost, 1, invite));
        view.add(&packet(roost, phone, 1, "SIP/2.0 404 Not Found\r\nReason: x\r\n\r\n"));
        let decision = "answered 404 Not Found: the callee is not registered";
        view.add(&Packet { is_log: true, ..packet(roost, phone, 1, decision) });
        let shown = screen(&view);
        for part in [
            "9001 10.0.0.7:5060",
            " INVITE 9002@pbx ",
            "(again: 1)",
            " 404 Not Found ",
            "· answered 404 Not Found: the callee is not registered",
            "Reason: x",
            "2 messages; waiting",
        ] {
            assert!(shown.contains(part), "{part} is missing in\n{shown}");
        }
        assert!(view.press(KeyCode::Up) && view.press(KeyCode::Char('d')));
        let shown = screen(&view);
        assert!(shown.contains("From: <sip:9001@pbx>") && !shown.contains("· answered"), "{shown}");
        assert!(shown.contains("G: to the newest"), "{shown}");
        // What is chosen stays so while others come; the newest is chosen again at the end.
        view.add(&packet(roost, phone, 1, "SIP/2.0 200 OK\r\n\r\n"));
        assert_eq!(view.chosen, 0);
        assert!(view.press(KeyCode::Char('G')) && !view.press(KeyCode::Char('q')));
        assert_eq!(view.chosen, 2);
    }
}
