"""What other autoscalers would do, by their own formulas, defaults and periods, to compare Peakclip's plan with.

Pure like the plan: `now` (seconds) is an argument, nothing sleeps, reads a clock or draws a random number, so the
phases of their timers are arguments too. Each module names the sources that it was read from; none of their code
is in it. None of them has a rate limiter: their workers do what they can.

Not modelled for any of them: the failure of their own metrics, several triggers, and the seconds that an apiserver
takes. Each of these omissions is in their favour.
"""
