"""Room acoustics: image-source method, impulse responses, convolution, reverberation time."""
