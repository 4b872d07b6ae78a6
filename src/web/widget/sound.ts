// Sound for new messages. Guests can turn it on.
let audio: AudioContext | null = null;

/** Plays two short tones. */
export function playSound(): void {
  if (!("AudioContext" in window)) return;
  audio ??= new AudioContext();
  const { currentTime, destination } = audio;
  const gain = audio.createGain();
  gain.connect(destination);
  gain.gain.setValueAtTime(0.08, currentTime);
  gain.gain.exponentialRampToValueAtTime(0.0001, currentTime + 0.4);
  const tone = audio.createOscillator();
  tone.frequency.setValueAtTime(660, currentTime);
  tone.frequency.setValueAtTime(880, currentTime + 0.1);
  tone.connect(gain);
  tone.start();
  tone.stop(currentTime + 0.4);
}
