//! The worked example in PROTOCOL.md: what the machines write over a connection with two drops, as text.

use std::fmt::Write as _;
use std::time::Duration;

use crate::net::Way;
use crate::world::World;
use crate::world::secrets;
use crate::world::steady;

/// A connection from its first hello to its goodbye, with two drops in between.
pub fn two_drops() -> String {
    let mut world = World::new();
    let mut story = Story { start: world.now.as_millis(), told: 0, text: String::new() };
    story.say("The client attaches for the first time. Each message takes 10 ms.");
    world.add_client(steady(), secrets(1));
    world.drive();
    story.tell(&world, &[]);

    story.say("Both sides send a message, and both applications take what comes.");
    world.send_up("one");
    world.send_down("first");
    world.drive();
    story.tell(&world, &[]);

    story.say("The client sends two more. The transport breaks before they arrive, and both sides hear of it.");
    world.send_up("two");
    world.send_up("three");
    story.drop_transport(&mut world);

    story.say(
        "After a second (backoff without jitter) it comes back. The server has received 1: 2 and 3 are written again.",
    );
    world.run_for(Duration::from_secs(1));
    world.drive();
    story.tell(&world, &[]);

    story.say("The client sends 4. It arrives and is taken; what the server says to that is lost with the transport.");
    world.send_up("four");
    world.run_for(Duration::from_millis(10));
    world.send_down("second");
    world.pump();
    story.drop_transport(&mut world);

    story.say(
        "The hello shows that the client holds 4 unsettled; the welcome, that the server has settled it. So 4 is \
         delivered, and not written again. The server writes its 2 again. (The delay has doubled: the transport did not stay \
         attached for 5 s.)",
    );
    world.run_for(Duration::from_secs(2));
    world.drive();
    story.tell(&world, &[]);

    story.say("The client has nothing left to send and ends the connection.");
    let now = world.now;
    world.client().client.close(Duration::from_secs(1), now);
    world.drive();
    story.tell(&world, &[]);
    story.text
}

struct Story {
    start: u64,
    /// How many of the world's texts have been told.
    told: usize,
    text: String,
}

impl Story {
    fn say(&mut self, words: &str) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        for line in wrap(words, 116) {
            _ = writeln!(self.text, "# {line}");
        }
    }

    /// Cuts the client's transport and tells what was on its way as lost.
    fn drop_transport(&mut self, world: &mut World) {
        world.pump();
        let wire = world.wire(0);
        let lost: Vec<_> = Way::BOTH
            .into_iter()
            .flat_map(|way| world.net.in_flight(wire, way).into_iter().map(move |t| (way, t)))
            .collect();
        world.cut(0);
        self.tell(world, &lost);
    }

    fn tell(&mut self, world: &World, lost: &[(Way, String)]) {
        for (at, _, way, text) in &world.texts[self.told..] {
            let arrow = match way {
                Way::Up => "C -> S",
                Way::Down => "S -> C",
            };
            let is_lost = lost.iter().any(|(lost_way, lost_text)| lost_way == way && lost_text == text);
            let note = if is_lost { "  lost" } else { "" };
            for (index, frame) in text.lines().enumerate() {
                let frame = shorten(frame);
                if index == 0 {
                    _ = writeln!(self.text, "{:>5} ms  {arrow}{note}  {frame}", at.as_millis() - self.start);
                } else {
                    _ = writeln!(self.text, "          |{note}       {frame}");
                }
            }
        }
        self.told = world.texts.len();
    }
}

/// Leaves the first four digits of every nonce, and of every connection id.
fn shorten(frame: &str) -> String {
    let mut short = String::new();
    for (index, piece) in frame.split('"').enumerate() {
        if index > 0 {
            short.push('"');
        }
        let is_nonce = piece.len() == 32 && piece.bytes().all(|byte| byte.is_ascii_hexdigit());
        if is_nonce {
            _ = write!(short, "{}..", &piece[..4]);
        } else if piece.starts_with("cid-") && piece.len() == 40 {
            _ = write!(short, "{}..", &piece[..8]);
        } else {
            short.push_str(piece);
        }
    }
    short
}

fn wrap(words: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in words.split_whitespace() {
        let line = lines.last_mut().expect("there is always a last line");
        if line.len() + word.len() + 1 > width {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}
