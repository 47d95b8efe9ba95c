//! What a change of a file looks like: one place, with the lines around it.

/// Lines before and after that are shown.
const AROUND: usize = 3;

/// The lines that differ, `-` and `+` before them. Empty when none does. What changes is one entry, so
/// that everything before the first and after the last line that differs is the same.
pub(super) fn difference(before: &str, after: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let same = old.iter().zip(&new).take_while(|(one, other)| one == other).count();
    let rest = old.len().min(new.len()) - same;
    let tail =
        old.iter().rev().zip(new.iter().rev()).take(rest).take_while(|(one, other)| one == other).count();
    let (gone, come) = (&old[same..old.len() - tail], &new[same..new.len() - tail]);
    if gone.is_empty() && come.is_empty() {
        return String::new();
    }
    let mut text = String::new();
    let mut put = |mark: char, lines: &[&str]| {
        for line in lines {
            text.push(mark);
            text.push_str(line);
            text.push('\n');
        }
    };
    put(' ', &old[same.saturating_sub(AROUND)..same]);
    put('-', gone);
    put('+', come);
    put(' ', &new[new.len() - tail..(new.len() - tail + AROUND).min(new.len())]);
    text
}

#[cfg(test)]
mod tests {
    use super::difference;

    #[test]
    fn one_place_is_shown() {
        assert_eq!(difference("a\nb\n", "a\nb\n"), "");
        assert_eq!(difference("", "x\n"), "+x\n");
        assert_eq!(difference("1\n2\n3\n4\n5\n6\n", "1\n2\n3\n4\nx\n5\n6\n"), " 2\n 3\n 4\n+x\n 5\n 6\n");
        assert_eq!(difference("a\nb\nc\n", "a\nc\n"), " a\n-b\n c\n");
        assert_eq!(difference("a\na\n", "a\n"), " a\n-a\n");
    }
}
