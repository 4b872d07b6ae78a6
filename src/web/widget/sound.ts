// The sound of a new message, which guests turn on.
import { local } from "../shared/storage";

export class Sound {
  private audio: AudioContext | null = null;
  private readonly key: string;

  constructor(uuid: string) {
    this.key = `pintalk:${uuid}:sound`;
  }

  get isOn(): boolean {
    return local.get(this.key) === "true";
  }

  turn(): void {
    local.set(this.key, `${!this.isOn}`);
    if (this.isOn) this.play();
  }

  play(): void {
    if (!("AudioContext" in window)) return;
    const audio = (this.audio ??= new AudioContext());
    const gain = audio.createGain();
    gain.connect(audio.destination);
    gain.gain.setValueAtTime(0.08, audio.currentTime);
    gain.gain.exponentialRampToValueAtTime(0.0001, audio.currentTime + 0.4);
    const tone = audio.createOscillator();
    tone.frequency.setValueAtTime(660, audio.currentTime);
    tone.frequency.setValueAtTime(880, audio.currentTime + 0.1);
    tone.connect(gain);
    tone.start();
    tone.stop(audio.currentTime + 0.4);
  }

  close(): void {
    void this.audio?.close().catch(() => {});
  }
}
